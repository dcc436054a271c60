"""Activations, group and layer norm and upsampling against torch in float64."""

from __future__ import annotations

import math

import pytest
from engine_plans import MASKS, assert_gradients_agree, between
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.runtime.native.library import Library
from fedsparse.plan import (
    Gelu,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Operator,
    Relu6,
    Shape,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)

CASES: dict[str, tuple[Operator, Shape]] = {
    "upsample 1d": (Upsample(scale=(3,)), (3, 7)),
    "upsample 2d": (Upsample(scale=(2, 3)), (3, 4, 5)),
    "group norm": (GroupNorm(groups=2, eps=1e-3), (6, 4, 3)),
    "group norm, one group": (GroupNorm(groups=1), (5, 70)),
    "group norm, each channel": (GroupNorm(groups=4, eps=1e-3), (4, 9)),
    "group norm of a vector": (GroupNorm(groups=3, eps=1e-2), (12,)),
    "layer norm of a vector": (LayerNorm(axes=1), (90,)),
    "layer norm, last axis": (LayerNorm(axes=1, eps=1e-2), (3, 4, 6)),
    "layer norm, two axes": (LayerNorm(axes=2, eps=1e-3), (3, 5, 4)),
    "layer norm, all axes": (LayerNorm(axes=3), (3, 5, 4)),
    "relu6": (Relu6(), (4, 9)),
    "leaky relu": (LeakyRelu(slope=0.1), (4, 9)),
    "leaky relu that is relu": (LeakyRelu(slope=0.0), (11,)),
    "sigmoid": (Sigmoid(), (4, 3, 3)),
    "tanh": (Tanh(), (4, 9)),
    "silu": (Silu(), (4, 9)),
    "gelu": (Gelu(), (4, 9)),
    "gelu by tanh": (Gelu(approximate=True), (4, 9)),
    "hard sigmoid": (HardSigmoid(), (4, 9)),
    "hard swish": (HardSwish(), (4, 9)),
}
VARIANTS = [Library(variant=name) for name in Library().variants]


@pytest.mark.parametrize("batch", [1, 3, 8, 17, 33])
@pytest.mark.parametrize("case", CASES)
def test_an_operator_gives_torchs_gradients(case: str, batch: int) -> None:
    for seed, mask in enumerate(MASKS):
        assert_gradients_agree(between(*CASES[case]), mask, batch, seed=seed)


maps = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)


@st.composite
def shaped_operators(draw: st.DrawFn) -> tuple[Operator, Shape]:
    """An operator of one input, and a shape that suits it."""
    shape = draw(maps)
    groups = draw(st.sampled_from([n for n in range(1, shape[0] + 1) if shape[0] % n == 0]))
    operators: list[Operator] = [
        GroupNorm(groups=groups, eps=0.05),
        LayerNorm(axes=draw(st.integers(1, len(shape))), eps=0.05),
        LeakyRelu(slope=draw(st.floats(0, 1))),
        Gelu(approximate=draw(st.booleans())),
        *(kind() for kind in (Relu6, Sigmoid, Tanh, Silu, HardSigmoid, HardSwish)),
    ]
    if shape[1:]:
        scale = tuple(draw(st.integers(1, 3)) for _ in shape[1:])
        operators.append(Upsample(scale=scale))
    return draw(st.sampled_from(operators)), shape


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    case=shaped_operators(),
    batch=st.integers(1, 40),
    kind=st.sampled_from(MASKS),
    width=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_any_shape_of_any_operator_gives_torchs_gradients(
    case: tuple[Operator, Shape], batch: int, kind: str, width: int, seed: int
) -> None:
    operator, shape = case
    lonely = isinstance(operator, GroupNorm) and math.prod(shape) == operator.groups
    batch += lonely and batch == 1  # torch refuses a single value for each channel
    plan = between(operator, shape)
    assert_gradients_agree(plan, kind, batch, seed=seed, library=VARIANTS[width % len(VARIANTS)])
