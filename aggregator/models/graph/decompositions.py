"""Gradients that ONNX has no operator for, in terms of operators that it has.

torch decomposes the rest. Training batch-norm must be among ours: left alone it would come out as
that of inference, which is wrong and which nothing but the self-test would notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch._decomp import core_aten_decompositions

from fedsparse.errors import PlanError

aten = torch.ops.aten
Tensor: TypeAlias = "torch.Tensor"
Sizes = Sequence[int]

# Up to so many kernel positions, a weight gradient is one product each: 2 to 2.5 times as fast in
# onnxruntime as a convolution with the gradient for a kernel. Beyond, the graph would grow large.
MAX_TAPS: Final = 49


def decompositions() -> dict[Any, Callable[..., Any]]:
    """What the tracer replaces."""
    table = dict(core_aten_decompositions())
    table.update(
        {
            aten.convolution_backward.default: convolution_backward,
            aten._native_batch_norm_legit_functional.default: batch_norm,
            aten.native_batch_norm_backward.default: batch_norm_backward,
            aten.max_pool2d_with_indices_backward.default: max_pool_backward,
            aten.avg_pool2d_backward.default: avg_pool_backward,
            aten._adaptive_avg_pool2d.default: adaptive_avg_pool,
            aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool_backward,
        }
    )
    return table


def convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any,  # noqa: ANN401
    stride: Sizes, padding: Sizes, dilation: Sizes, transposed: bool, output_padding: Sizes,
    groups: int, wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of input, weight and bias, as far as they are wanted."""
    axes = weight.dim() - 2
    stride, padding, dilation = (_each(sizes, axes) for sizes in (stride, padding, dilation))
    of_input = of_weight = of_bias = None
    if wanted[0] and transposed:
        of_input = aten.convolution(
            gradient, weight, None, stride, padding, dilation, False, [0] * axes, groups
        )
    elif wanted[0]:
        rest = _unread(x, weight, stride, padding, dilation)
        of_input = aten.convolution(
            gradient, weight, None, stride, padding, dilation, True, rest, groups
        )
    if wanted[1]:
        read, written = (gradient, x) if transposed else (x, gradient)
        of_weight = _weight_gradient(read, written, weight, stride, padding, dilation, groups)
    if wanted[2]:
        of_bias = gradient.sum([0, *range(2, 2 + axes)])
    return of_input, of_weight, of_bias


def _weight_gradient(
    x: Tensor, gradient: Tensor, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes,
    groups: int,
) -> Tensor:  # fmt: skip
    """Of a plain convolution."""
    if math.prod(weight.shape[2:]) > MAX_TAPS:
        return _weight_gradient_by_convolution(
            x, gradient, weight, stride, padding, dilation, groups
        )
    if any(padding):
        x = aten.constant_pad_nd(x, [side for pad in reversed(padding) for side in (pad, pad)], 0.0)
    return tap_products(x, gradient, list(weight.shape), stride, dilation, groups)


@torch.library.custom_op("fedsparse::tap_products", mutates_args=())  # type: ignore[untyped-decorator]
def tap_products(
    x: torch.Tensor, gradient: torch.Tensor, shape: list[int], stride: list[int],
    dilation: list[int], groups: int,
) -> torch.Tensor:  # fmt: skip
    """The weight gradient of an unpadded convolution, one product for each kernel position.

    One operator of the trace, for which `rules_convolution` writes those products.
    """
    raise NotImplementedError("it is only traced")


@tap_products.register_fake  # type: ignore[untyped-decorator]
def _(
    x: torch.Tensor, gradient: torch.Tensor, shape: list[int], stride: list[int],
    dilation: list[int], groups: int,
) -> torch.Tensor:  # fmt: skip
    return x.new_empty(shape)


def _weight_gradient_by_convolution(
    x: Tensor, gradient: Tensor, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes,
    groups: int,
) -> Tensor:  # fmt: skip
    """The samples as channels, the gradient as kernel, stride and dilation exchanged."""
    spatial = range(3, 1 + x.dim())
    batch, channels, out = x.shape[0], x.shape[1] // groups, weight.shape[0]
    samples = x.reshape(batch, groups, channels, *x.shape[2:]).permute(2, 1, 0, *spatial)
    kernels = gradient.reshape(batch, groups, out // groups, *gradient.shape[2:])
    found = aten.convolution(
        samples.reshape(channels, groups * batch, *x.shape[2:]),
        kernels.permute(1, 2, 0, *spatial).reshape(out, batch, *gradient.shape[2:]),
        None, dilation, padding, stride, False, [0] * len(stride), groups,
    ).transpose(0, 1)  # fmt: skip
    for axis in range(2, weight.dim()):
        found = found.narrow(axis, 0, weight.shape[axis])
    return found


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor,
    running_var: Tensor, training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Output, batch mean, `1 / sqrt(var + eps)`, and the new running statistics."""
    if not training:
        raise PlanError("a batch-norm that is in evaluation while the model trains")
    axes = _all_but_channels(x)
    mean = x.mean(axes)
    centred = x - _channels(mean, x)
    var = (centred * centred).mean(axes)
    rstd = torch.rsqrt(var + eps)
    out = centred * _channels(rstd if weight is None else rstd * weight, x)
    if bias is not None:
        out = out + _channels(bias, x)
    count = math.prod([x.shape[0], *x.shape[2:]])
    unbiased = var * (count / (count - 1))
    return (
        out, mean, rstd,
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * unbiased,
    )  # fmt: skip


def batch_norm_backward(
    gradient: Tensor, x: Tensor, weight: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, mean: Tensor, rstd: Tensor, training: bool, eps: float,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of input, weight and bias: `dx = rstd w (g - mean(g) - xhat mean(g xhat))`.

    Of the forward pass only `x - mean` is read: the same expression as there, so that it is
    computed once, and `x` itself need not be kept.
    """
    axes = _all_but_channels(x)
    centred = x - _channels(mean, x)
    of_bias = gradient.sum(axes)
    of_weight = (gradient * centred).sum(axes) * rstd
    count = math.prod([x.shape[0], *x.shape[2:]])
    scale = rstd if weight is None else rstd * weight
    slope = scale * rstd * of_weight * (-1.0 / count)
    shift = scale * of_bias * (-1.0 / count)
    of_x = gradient * _channels(scale, x) + (centred * _channels(slope, x) + _channels(shift, x))
    return of_x, of_weight, of_bias


def max_pool_backward(
    gradient: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes,
    ceil_mode: bool, indices: Tensor,
) -> Tensor:  # fmt: skip
    """Every gradient goes to where its maximum came from."""
    rows = [*x.shape[:-2], -1]
    zeros = torch.zeros_like(x).reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    moved = zeros.scatter_add(x.dim() - 2, indices.reshape(rows), gradient.reshape(rows))
    return moved.reshape(x.shape)


def avg_pool_backward(
    gradient: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """Every gradient goes to its whole window, in equal parts."""
    kernel, padding = _each(kernel, 2), _each(padding, 2)
    stride = _each(stride, 2) if stride else kernel
    if ceil_mode or (any(padding) and not count_include_pad):
        raise PlanError("average-pool with ceil_mode, or with count_include_pad=False and padding")
    window = torch.ones((1, 1, *kernel)) / (divisor_override or math.prod(kernel))
    alone = gradient.reshape(-1, 1, *gradient.shape[-2:])
    rest = _unread(x, window, stride, padding, [1, 1])
    spread = aten.convolution(alone, window, None, stride, padding, [1, 1], True, rest, 1)
    return spread.reshape(x.shape)


def adaptive_avg_pool(x: Tensor, size: Sizes) -> Tensor:
    """Equal windows only."""
    kernel = _equal_windows(x, size)
    pooled: Tensor = aten.avg_pool2d(x, kernel, kernel)
    return pooled


def adaptive_avg_pool_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """As of an average-pool whose stride is its window."""
    kernel = _equal_windows(x, gradient.shape[-2:])
    return avg_pool_backward(gradient, x, kernel, kernel, [0, 0], False, True, None)


def _equal_windows(x: Tensor, size: Sizes) -> list[int]:
    if any(length % int(wanted) for length, wanted in zip(x.shape[-2:], size, strict=True)):
        raise PlanError(
            f"adaptive average-pool of {tuple(x.shape[-2:])} to {tuple(size)}: sizes must divide"
        )
    return [int(length) // int(wanted) for length, wanted in zip(x.shape[-2:], size, strict=True)]


def _unread(x: Tensor, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes) -> list[int]:
    """Positions at the end of each axis that no window reaches: the transpose's output padding."""
    rest = []
    for axis, (step, pad, apart) in enumerate(zip(stride, padding, dilation, strict=True)):
        length = int(x.shape[x.dim() - len(stride) + axis])
        reach = apart * (int(weight.shape[2 + axis]) - 1) + 1
        rest.append((length + 2 * pad - reach) % step)
    return rest


def _each(sizes: Sizes, axes: int) -> list[int]:
    return list(sizes) * axes if len(sizes) == 1 else list(sizes)


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _channels(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape([1, -1] + [1] * (x.dim() - 2))
