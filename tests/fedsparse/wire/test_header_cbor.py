from __future__ import annotations

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire import cbor

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
headers = st.dictionaries(
    st.text(max_size=8), scalars | st.lists(scalars, max_size=30) | st.lists(st.lists(scalars)),
    max_size=6,
)  # fmt: skip


@given(headers)
def test_headers_survive_the_way(header: dict[str, object]) -> None:
    assert cbor.loads(cbor.dumps(header)) == header


@given(headers)
def test_the_order_of_the_keys_does_not_change_the_bytes(header: dict[str, object]) -> None:
    assert cbor.dumps(dict(reversed(header.items()))) == cbor.dumps(header)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(cbor.loads(b"\xa1\x61a" + data), dict)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "must be a CBOR map"),
        (b"\x80", "must be a CBOR map"),
        (b"\xa0\x00", "1 bytes after"),
        (b"\xa1\x61a", "ends too early"),
        (b"\xa1\x61a\x19\x01", "ends too early"),
        (b"\xa1\x61a\xc2\x41\x01", "tag"),
        (b"\xa1\x61a\xd8\x1c\x00", "tag"),
        (b"\xbf\x61a\x00\xff", "indefinite"),
        (b"\xa1\x61a\x9f\xff", "indefinite"),
        (b"\xa1\x61a\x5f\xff", "indefinite"),
        (b"\xa1\x61a\x1c", "indefinite"),
        (b"\xa1\x61a\xf7", "simple value 23"),
        (b"\xa1\x61a\xf8\xff", "simple value 24"),
        (b"\xa1\x00\x00", "key"),
        (b"\xa1\x41a\x00", "key"),
        (b"\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "length of 18446744073709551615"),
        (b"\xa1\x61a\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", "length of"),
        (b"\xa1\x61a\x7a\x00\xff\xff\xff", "length of"),
        (b"\xa1\x61a" + b"\x81" * 60_000 + b"\x00", "nested deeper"),
        (b"\xa1\x61a\x62\xff\xfe", "not CBOR"),
    ],
)
def test_what_is_outside_the_subset_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        cbor.loads(data)


def test_everything_the_subset_allows_is_what_the_decoder_reads() -> None:
    header = {"a": [1, -1, 1.5, "x", b"y", True, None, {"k": [[0]]}]}
    assert cbor.loads(cbor2.dumps(header)) == header


def test_containers_are_nested_to_the_documented_depth_and_no_deeper() -> None:
    deep = b"\xa1\x61a" + b"\x81" * (cbor.MAX_DEPTH - 2)
    assert cbor.loads(deep + b"\x80")
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        cbor.loads(deep + b"\x81\x80")


def test_a_value_that_no_header_can_hold_is_a_bug_here() -> None:
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        cbor.dumps({"a": object()})
