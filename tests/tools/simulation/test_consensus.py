"""The consensus of masks: what it must be for masks whose agreement is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedsparse.types import BoolArray
from tools.simulation.consensus import Consensus

SIZES = (7, 12)
LAYERS = (slice(0, 7), slice(7, 19))


@st.composite
def masks(draw: st.DrawFn) -> list[BoolArray]:
    """Two to six masks that keep at least one position of each tensor."""
    found = draw(st.lists(arrays(np.bool_, 19), min_size=2, max_size=6))
    for mask in found:
        mask[[0, 7]] = True
    return found


def counted(found: list[BoolArray]) -> Consensus:
    consensus = Consensus(LAYERS)
    for mask in found:
        consensus.add(mask)
    return consensus


@given(found=masks())
def test_it_is_the_share_of_common_positions_over_all_ordered_pairs(
    found: list[BoolArray],
) -> None:
    for layer, value in zip(LAYERS, counted(found).clients(), strict=True):
        pairs = [(a[layer], b[layer]) for a, b in itertools.permutations(found, 2)]
        common = sum(np.count_nonzero(a & b) for a, b in pairs)
        assert value == pytest.approx(common / sum(np.count_nonzero(a) for a, _ in pairs))
        assert 0 < value <= 1


@given(found=masks(), server=arrays(np.bool_, 19))
def test_with_the_server_it_is_the_share_that_the_server_keeps(
    found: list[BoolArray], server: BoolArray
) -> None:
    for layer, value in zip(LAYERS, counted(found).server(server), strict=True):
        common = sum(np.count_nonzero(one[layer] & server[layer]) for one in found)
        kept = sum(np.count_nonzero(one[layer]) for one in found)
        assert value == pytest.approx(common / kept)
        assert 0 <= value <= 1


@given(found=masks(), number=st.integers(2, 5))
def test_equal_masks_agree_wholly(found: list[BoolArray], number: int) -> None:
    consensus = counted([found[0]] * number)
    assert consensus.clients() == (1.0, 1.0)
    assert consensus.server(found[0]) == (1.0, 1.0)
    assert consensus.server(~found[0]) == (0.0, 0.0)


@given(found=masks(), order=st.randoms(use_true_random=False))
def test_the_order_of_the_clients_does_not_matter(found: list[BoolArray], order: object) -> None:
    shuffled = list(found)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert counted(found).clients() == counted(shuffled).clients()
    assert counted(found).server(found[0]) == counted(shuffled).server(found[0])


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_independent_random_masks_agree_by_their_density(density: float) -> None:
    rng = np.random.default_rng(3)
    consensus = Consensus((slice(0, 20_000),))
    for _ in range(10):
        mask = np.zeros(20_000, np.bool_)
        mask[rng.choice(20_000, round(20_000 * density), replace=False)] = True
        consensus.add(mask)
    assert consensus.clients()[0] == pytest.approx(density, abs=0.005)
    assert consensus.server(mask)[0] == pytest.approx(0.1 + 0.9 * density, abs=0.01)


def test_disjoint_masks_have_nothing_in_common() -> None:
    first = np.arange(19) % 2 == 0
    assert counted([first, ~first]).clients() == (0.0, 0.0)


def test_what_the_clients_keep_is_counted_by_tensor() -> None:
    mask = np.arange(19) < 9
    assert counted([mask, mask, mask]).kept() == (21, 6)


def test_one_client_alone_has_no_consensus() -> None:
    consensus = counted([np.ones(19, np.bool_)])
    with pytest.raises(ValueError, match="at least two clients, got 1"):
        consensus.clients()
    assert consensus.server(np.ones(19, np.bool_)) == (1.0, 1.0)


def test_a_tensor_of_which_nobody_keeps_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="no client keeps a weight of tensor 1"):
        counted([np.arange(19) < 7] * 2).clients()


@pytest.mark.parametrize("wrong", [np.ones(18, np.bool_), np.ones(19, np.uint8)])
def test_a_mask_of_another_model_is_refused(wrong: BoolArray) -> None:
    consensus = counted([np.ones(19, np.bool_)])
    with pytest.raises(ValueError, match="expected a mask of 19 positions"):
        consensus.add(wrong)
    with pytest.raises(ValueError, match="expected a mask of 19 positions"):
        consensus.server(wrong)
