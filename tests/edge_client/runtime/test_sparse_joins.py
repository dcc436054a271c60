"""Sum, product, gate and concatenation against torch in float64."""

from __future__ import annotations

import pytest
from engine_plans import MASKS, assert_gradients_agree, joined, node
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.runtime.lowering import lower
from edge_client.runtime.native.library import Library
from fedsparse.plan import INPUT, Add, Concat, Flatten, Linear, Mul, Operator, Plan, Shape, Tanh

VARIANTS = [Library(variant=name) for name in Library().variants]


@pytest.mark.parametrize("batch", [1, 3, 8, 17, 33])
@pytest.mark.parametrize(
    ("operator", "shapes"),
    [
        (Add(), ((4, 5), (4, 5))),
        (Mul(), ((4, 5), (4, 5))),
        (Mul(), ((7,), (7,))),
        (Mul(), ((4, 3, 2), (4,))),
        (Mul(), ((4, 5), (4,))),
        (Concat(), ((4, 5), (1, 5))),
        (Concat(), ((3,), (5,), (2,))),
        (Concat(), ((2, 3, 4), (1, 3, 4), (3, 3, 4), (1, 3, 4))),
    ],
    ids=str,
)
def test_an_operator_of_several_inputs_gives_torchs_gradients(
    operator: Operator, shapes: tuple[Shape, ...], batch: int
) -> None:
    for seed, mask in enumerate(MASKS):
        assert_gradients_agree(joined(operator, *shapes), mask, batch, seed=seed)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    spatial=st.lists(st.integers(1, 6), max_size=2).map(tuple),
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    gate=st.booleans(),
    batch=st.integers(1, 40),
    width=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_any_join_gives_torchs_gradients(
    spatial: Shape, channels: list[int], gate: bool, batch: int, width: int, seed: int
) -> None:
    one, shapes = (channels[0], *spatial), [(count, *spatial) for count in channels]
    other = one[:1] if gate else one
    for plan in (joined(Concat(), *shapes), joined(Mul(), one, other)):
        assert_gradients_agree(
            plan, "0.5", batch, seed=seed, library=VARIANTS[width % len(VARIANTS)]
        )


####


def test_a_chain_of_concatenations_holds_each_value_once() -> None:
    """The first input's buffer grows, and the way back shares it too."""
    plan = joined(Concat(), (8, 5), (3, 5), (2, 5))
    program = lower(plan, [tensor.size for tensor in plan.prunable])
    copies = [call for call in program.instructions if call.kernel == "copy_slice"]
    assert [call.units for call in copies] == [15, 10, 15, 10]


def test_a_value_in_a_buffer_that_a_concatenation_grew_is_read_alone() -> None:
    """The logits are added where the concatenation's first input was; more lies behind them."""
    plan = Plan(
        name="grown",
        input_shape=(6,),
        nodes=(
            node("a", Linear(out_features=4), INPUT),
            node("z", Linear(out_features=3), INPUT),
            node("both", Concat(), "a", "z"),
            node("tanh", Tanh(), "both"),
            node("l", Linear(out_features=4), "tanh"),
            node("sum", Add(), "a", "l"),
        ),
    )
    for batch in (1, 5, 32):
        assert_gradients_agree(plan, "0.7", batch, seed=batch)


def test_a_gate_in_the_buffer_of_its_feature_map_is_not_overwritten_while_it_is_read() -> None:
    plan = Plan(
        name="gate",
        input_shape=(1, 2, 2),
        nodes=(
            node("two", Concat(), INPUT, INPUT),
            node("four", Concat(), "two", "two"),
            node("flat", Flatten(), INPUT),
            node("gated", Mul(), "four", "flat"),
            node("all", Flatten(), "gated"),
            node("last", Linear(out_features=3), "all"),
        ),
    )
    assert_gradients_agree(plan, "all", 5, seed=1)
