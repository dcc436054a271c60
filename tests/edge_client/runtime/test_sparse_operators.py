"""Every operator's forward pass and gradients against torch in float64."""

from __future__ import annotations

import functools

import pytest
from engine_plans import (
    MASKS,
    assert_gradients_agree,
    between,
    conv,
    mobile_plan,
    node,
    residual_plan,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_client.runtime.native.library import Library
from fedsparse.errors import PlanError
from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Operator,
    Plan,
    Relu,
    Shape,
)

BATCHES = (1, 3, 8, 17, 33)

CASES: dict[str, tuple[Operator, Shape]] = {
    "linear": (Linear(out_features=13), (29,)),
    "linear without bias": (Linear(out_features=7, bias=False), (5,)),
    "dense linear": (Linear(out_features=7, prunable=False), (19,)),
    "conv 1d": (conv(5, (3,)), (4, 11)),
    "conv 1d, stride, uneven pads": (conv(3, (4,), (3,), ((3, 1),)), (2, 14)),
    "conv 1d, one position": (conv(6, (7,)), (3, 7)),
    "conv 2d": (conv(4, (3, 2)), (3, 6, 5)),
    "conv 2d, strides, uneven pads": (conv(3, (3, 4), (2, 3), ((0, 2), (3, 1))), (2, 8, 9)),
    "conv 2d, stride beyond the kernel": (conv(4, (1, 2), (3, 4), bias=False), (3, 8, 9)),
    "conv 2d, stride in rows only": (conv(4, (3, 3), (2, 1), ((1, 1), (1, 1))), (3, 7, 5)),
    "conv 1d, dilated": (conv(3, (3,), (2,), ((2, 3),), dilation=(3,)), (2, 11)),
    "conv 2d, dilated": (conv(4, (2, 3), (3, 2), ((1, 1), (2, 2)), dilation=(2, 4)), (3, 8, 9)),
    "conv 1d, groups": (conv(6, (3,), (2,), ((1, 1),), groups=2), (4, 9)),
    "conv 2d, groups": (conv(10, (3, 2), pads=((1, 1), (1, 0)), groups=2), (6, 5, 4)),
    "depthwise": (conv(5, (3, 3), (2, 1), ((1, 1), (1, 1)), groups=5, prunable=False), (5, 7, 6)),
    "depthwise, two rows a channel": (conv(8, (3,), pads=((1, 1),), groups=4), (4, 9)),
    "dense conv": (conv(4, (3, 3), pads=((1, 1), (1, 1)), prunable=False), (3, 5, 6)),
    "batch norm": (BatchNorm(eps=1e-3, momentum=0.2), (5, 4, 3)),
    "relu": (Relu(), (4, 9)),
    "max pool 1d": (MaxPool(kernel=(3,), stride=(2,), pads=((1, 0),)), (3, 12)),
    "max pool 2d": (MaxPool(kernel=(3, 2), stride=(1, 2), pads=((2, 1), (0, 1))), (3, 7, 9)),
    "avg pool 1d": (AvgPool(kernel=(4,), stride=(3,), pads=((0, 2),)), (3, 12)),
    "avg pool 2d": (AvgPool(kernel=(2, 3), stride=(2, 1), pads=((1, 1), (2, 0))), (3, 7, 5)),
    "global avg pool": (GlobalAvgPool(), (6, 5, 4)),
}


@functools.cache
def variant(name: str) -> Library:
    return Library(variant=name)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", CASES)
def test_an_operator_gives_torchs_gradients(case: str, batch: int) -> None:
    operator, shape = CASES[case]
    for seed, mask in enumerate(MASKS):
        assert_gradients_agree(between(operator, shape), mask, batch, seed=seed)


WEIGHTED = [case for case, (operator, _) in CASES.items() if isinstance(operator, Conv | Linear)]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", WEIGHTED)
def test_the_dense_kernels_give_torchs_gradients(case: str, batch: int) -> None:
    operator, shape = CASES[case]
    for seed, mask in enumerate(MASKS):
        assert_gradients_agree(between(operator, shape), mask, batch, seed=seed, dense=True)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", Library().variants)
@pytest.mark.parametrize("batch", [2, 5, 16, 37])
@pytest.mark.parametrize("plan", [residual_plan(), mobile_plan()], ids=lambda plan: plan.name)
def test_every_variant_of_the_kernels_gives_torchs_gradients(
    plan: Plan, name: str, batch: int, dense: bool
) -> None:
    library = variant(name)
    assert_gradients_agree(plan, "0.4", batch, seed=batch, library=library, dense=dense)


@pytest.mark.parametrize("batch", [1, 9])
def test_an_input_that_needs_no_gradient_may_pass_through_operators_first(batch: int) -> None:
    plan = Plan(
        name="late",
        input_shape=(3, 8, 6),
        nodes=(
            node("relu", Relu(), INPUT),
            node("max", MaxPool(kernel=(2, 2), stride=(1, 1), pads=((0, 0), (0, 0))), "relu"),
            node("sum", Add(), "max", "max"),
            node("conv", conv(4, (3, 3)), "sum"),
            node("pool", GlobalAvgPool(), "conv"),
            node("last", Linear(out_features=3), "pool"),
        ),
    )
    assert_gradients_agree(plan, "0.5", batch, seed=1)


def test_a_branch_that_leads_nowhere_is_run_but_not_trained() -> None:
    plan = Plan(
        name="dead end",
        input_shape=(3, 6),
        nodes=(
            node("first", conv(4, (3,)), INPUT),
            node("dead", conv(4, (3,)), "first"),
            node("dead_norm", BatchNorm(), "dead"),
            node("flat", Flatten(), "first"),
            node("last", Linear(out_features=3), "flat"),
        ),
    )
    assert_gradients_agree(plan, "0.5", 5, seed=2)


axes = st.tuples(
    st.integers(1, 9),  # size
    st.integers(1, 4),  # kernel
    st.integers(1, 4),  # stride
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 3),  # dilation
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    spatial=st.lists(axes, min_size=1, max_size=2),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    groups=st.sampled_from([1, 1, 2, 3]),
    batch=st.integers(1, 20),
    micro_batch=st.integers(1, 20),
    kind=st.sampled_from(MASKS),
    bias=st.booleans(),
    dense=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_convolution_gives_torchs_gradients(
    spatial: list[tuple[int, int, int, tuple[int, int], int]],
    channels: tuple[int, int],
    groups: int,
    batch: int,
    micro_batch: int,
    kind: str,
    bias: bool,
    dense: bool,
    seed: int,
) -> None:
    sizes, kernel, stride, pads, dilation = zip(*spatial, strict=True)
    into, out = (groups * count for count in channels)
    operator = conv(out, kernel, stride, pads, dilation=dilation, groups=groups, bias=bias)
    try:
        plan = between(operator, (into, *sizes))
    except PlanError:
        assume(False)
    assert_gradients_agree(plan, kind, batch, seed=seed, dense=dense, micro_batch=micro_batch)
