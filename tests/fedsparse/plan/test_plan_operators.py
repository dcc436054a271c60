"""Shapes and tensors of single operators, and what they refuse."""

from __future__ import annotations

import pytest

from fedsparse.errors import PlanError
from fedsparse.plan import (
    Concat,
    Conv,
    GroupNorm,
    LayerNorm,
    Mul,
    Operator,
    Role,
    Shape,
    Upsample,
)

SAME = ((1, 1), (1, 1))


def conv(out_channels: int, *, groups: int = 1, dilation: Shape = ()) -> Conv:
    return Conv(
        out_channels=out_channels, kernel=(3, 3), stride=(1, 1), pads=SAME, groups=groups,
        dilation=dilation,
    )  # fmt: skip


def test_a_grouped_convolution_reads_the_channels_of_its_group() -> None:
    weight, bias = conv(6, groups=2).tensors("c", ((4, 8, 8),))
    assert (weight.shape, weight.fan_in, bias.shape) == ((6, 2, 3, 3), 18, (6,))
    assert conv(6, groups=2).output_shape(((4, 8, 8),)) == (6, 8, 8)


def test_a_depthwise_convolution_reads_one_channel() -> None:
    depthwise = conv(8, groups=4)
    assert depthwise.tensors("c", ((4, 8, 8),))[0].shape == (8, 1, 3, 3)
    assert depthwise.is_depthwise(4)
    assert not depthwise.is_depthwise(8)
    assert not conv(4).is_depthwise(1)


def test_dilation_spreads_the_window() -> None:
    assert conv(2, dilation=(2, 3)).output_shape(((1, 9, 9),)) == (2, 9 + 2 - 4, 9 + 2 - 6)
    assert conv(2) == conv(2, dilation=(1, 1))


@pytest.mark.parametrize(
    ("channels", "out", "groups"), [(4, 6, 4), (4, 6, 3), (3, 4, 2), (2, 2, 0)]
)
def test_channels_that_do_not_divide_into_groups_are_refused(
    channels: int, out: int, groups: int
) -> None:
    with pytest.raises(PlanError, match=f"must both divide by groups = {groups}"):
        conv(out, groups=groups).output_shape(((channels, 8, 8),))


def test_group_norm_has_a_scale_and_a_shift_for_each_channel() -> None:
    norm = GroupNorm(groups=2)
    assert [(t.name, t.shape, t.role) for t in norm.tensors("n", ((4, 5),))] == [
        ("n.weight", (4,), Role.SCALE),
        ("n.bias", (4,), Role.SHIFT),
    ]
    with pytest.raises(PlanError, match="5 channels must divide by groups = 2"):
        norm.output_shape(((5, 4),))


@pytest.mark.parametrize(("axes", "shape"), [(1, (6,)), (2, (5, 6)), (3, (4, 5, 6))])
def test_layer_norm_has_a_scale_and_a_shift_for_each_position(axes: int, shape: Shape) -> None:
    norm = LayerNorm(axes=axes)
    assert norm.output_shape(((4, 5, 6),)) == (4, 5, 6)
    assert [tensor.shape for tensor in norm.tensors("n", ((4, 5, 6),))] == [shape, shape]


def test_layer_norm_over_more_axes_than_there_are_is_refused() -> None:
    with pytest.raises(PlanError, match=r"the last 2 axes of \(6,\): it has 1"):
        LayerNorm(axes=2).output_shape(((6,),))


def test_concat_adds_up_channels() -> None:
    assert Concat().output_shape(((2, 5, 5), (3, 5, 5), (1, 5, 5))) == (6, 5, 5)
    assert Concat().output_shape(((2,), (3,))) == (5,)


def test_a_gate_may_come_first_or_last() -> None:
    assert Mul().output_shape(((4, 5, 5), (4,))) == (4, 5, 5)
    assert Mul().output_shape(((4,), (4, 5, 5))) == (4, 5, 5)
    assert Mul().output_shape(((4, 5), (4, 5))) == (4, 5)


def test_upsampling_multiplies_the_spatial_sizes() -> None:
    assert Upsample(scale=(2, 3)).output_shape(((4, 5, 6),)) == (4, 10, 18)
    assert Upsample(scale=(2,)).output_shape(((4, 5),)) == (4, 10)


@pytest.mark.parametrize(
    ("operator", "shapes", "complaint"),
    [
        (Concat(), ((2, 5), (2, 6)), "concat needs inputs of the same spatial sizes"),
        (Concat(), ((2, 5), (2,)), "concat needs inputs of the same spatial sizes"),
        (Mul(), ((4, 5), (4, 6)), "mul needs two inputs of one shape, or a feature map and a gate"),
        (Mul(), ((4, 5), (5,)), "mul needs"),
        (Mul(), ((4, 5, 5), (4, 5)), "mul needs"),
        (Upsample(scale=(2,)), ((4, 5, 5),), "one scale for each"),
        (Upsample(scale=(2,)), ((4,),), "one scale for each"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    operator: Operator, shapes: tuple[Shape, ...], complaint: str
) -> None:
    with pytest.raises(PlanError, match=complaint):
        operator.output_shape(shapes)
