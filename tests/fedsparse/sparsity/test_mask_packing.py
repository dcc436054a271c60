from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fedsparse.errors import RemoteProtocolError
from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.packing import (
    BITS,
    HOLES,
    RICE,
    EncodedMask,
    decode_counts,
    decode_mask,
    encode_counts,
    encode_mask,
    mask_digest,
)
from fedsparse.types import BoolArray

PLAN = Plan(
    name="two",
    input_shape=(30,),
    nodes=(
        Node(name="a", operator=Linear(out_features=4), inputs=(INPUT,)),
        Node(name="b", operator=Linear(out_features=3), inputs=("a",)),
    ),
)  # 120 and 12 prunable weights


def mask_of(size: int, *positions: int) -> BoolArray:
    mask = np.zeros(size, np.bool_)
    mask[list(positions)] = True
    return mask


SMALL = mask_of(27, 0, 1, 5, 8, 14, 26)
PACKED = "23410004"  # bits 0 1 5 | 0 6 | | 2 of the bytes, lowest first


def test_golden_bytes_of_packed_bits() -> None:
    encoded = encode_mask(SMALL, None)
    assert encoded == EncodedMask(codec=BITS, data=bytes.fromhex(PACKED), base=False)


def test_golden_bytes_of_a_change() -> None:
    base = mask_of(200, 0, 1, 5, 40, 100, 199)
    mask = base ^ mask_of(200, 3, 150)
    encoded = encode_mask(mask, base)  # gaps 3 146 with r = 5: low bits 3 18, high parts 0 4
    assert encoded == EncodedMask(
        codec=RICE, data=bytes.fromhex("02000000054302" + "21"), base=True
    )
    assert np.array_equal(decode_mask(RICE, encoded.data, 200, base), mask)


def test_golden_digest_of_a_mask() -> None:
    digest = mask_digest("ab" * 32, SMALL)
    assert digest == hashlib.sha256(b"\xab" * 32 + bytes.fromhex(PACKED)).hexdigest()
    assert digest == "986440e9689876344ea3bb48b4c3b739c6b3d59a0e9c38e7af7d82b3b52e70cc"


def test_another_plan_or_another_mask_has_another_digest() -> None:
    digest = mask_digest("ab" * 32, SMALL)
    assert mask_digest("ba" * 32, SMALL) != digest
    assert mask_digest("ab" * 32, SMALL ^ mask_of(27, 3)) != digest


def test_golden_bytes_of_counts() -> None:
    data = encode_counts((120, 3))
    assert data.hex() == "7800000003000000"
    assert decode_counts(data, PLAN) == (120, 3)


def test_an_unchanged_mask_costs_four_bytes() -> None:
    mask = np.random.default_rng(0).random(10_000) < 0.3
    encoded = encode_mask(mask, mask)
    assert (encoded.base, len(encoded.data)) == (True, 4)


def test_a_base_that_has_nothing_in_common_is_not_used() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random(10_000) < 0.02
    assert not encode_mask(mask, rng.random(10_000) < 0.3).base


def test_a_mask_of_half_is_packed() -> None:
    encoded = encode_mask(np.arange(1000) % 2 == 0, None)
    assert (encoded.codec, len(encoded.data)) == (BITS, 125)


def test_golden_bytes_of_holes() -> None:
    mask = ~mask_of(200, 3, 150)
    encoded = encode_mask(mask, None)
    assert encoded == EncodedMask(
        codec=HOLES, data=bytes.fromhex("02000000054302" + "21"), base=False
    )
    assert np.array_equal(decode_mask(HOLES, encoded.data, 200), mask)


def test_a_mask_that_keeps_everything_costs_four_bytes() -> None:
    encoded = encode_mask(np.ones(261_000, np.bool_), None)
    assert (encoded.codec, len(encoded.data)) == (HOLES, 4)


def test_a_decoded_mask_can_be_changed_without_touching_its_bytes_or_base() -> None:
    base = SMALL.copy()
    for codec, data, against in ((BITS, bytes(4), None), (BITS, bytes(4), base)):
        mask = decode_mask(codec, data, 27, against)
        mask[:] = True
        assert data == bytes(4)
    assert np.array_equal(base, SMALL)


@pytest.mark.parametrize(
    ("codec", "data", "complaint"),
    [
        ("zip", PACKED, "mask codec 'zip'"),
        ("x" * 1000, PACKED, "mask codec 'x{32}' is none"),
        (BITS, PACKED[:-2], "3 bytes of bits for 27"),
        (BITS, PACKED + "00", "5 bytes of bits for 27"),
        (BITS, "23410008", "beyond position 26"),
        (BITS, "23410084", "beyond position 26"),
        (BITS, "", "0 bytes"),
    ],
)
def test_malformed_masks_are_refused(codec: str, data: str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode_mask(codec, bytes.fromhex(data), 27)


def test_a_base_of_another_size_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="mask of 26 for a mask of 27"):
        decode_mask(BITS, bytes.fromhex(PACKED), 27, np.zeros(26, np.bool_))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "0 bytes for 2 tensors"),
        ("78000000", "4 bytes"),
        ("780000000300000000", "9 bytes"),
        ("7900000003000000", r"a\.weight of 120 keeps 121"),
        ("7800000000000000", r"b\.weight of 12 keeps 0"),
        ("ffffffff03000000", "keeps 4294967295"),
    ],
)
def test_counts_that_do_not_fit_the_plan_are_refused(data: str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode_counts(bytes.fromhex(data), PLAN)
