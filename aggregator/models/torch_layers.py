"""What torch's layers become in a plan: those with parameters, and those that slide or resize.

A rule takes the assembly and one call of the graph, and returns the value that the call yields.
"""

from __future__ import annotations

from typing import Any

from aggregator.models.assembly import Assembly, Value
from aggregator.models.torch_call import Call
from fedsparse.errors import PlanError
from fedsparse.plan import (
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    Linear,
    MaxPool,
    Operator,
    Pads,
    Shape,
    Upsample,
)
from fedsparse.types import Float32Array


def conv(assembly: Assembly, call: Call) -> Value:
    """`conv1d`, `conv2d`."""
    arguments = call.arguments()
    source = call.data(arguments["input"])
    parameter, weight = call.parameter("weight", arguments["weight"])
    kernel: Shape = weight.shape[2:]
    dilation = per_axis(arguments["dilation"], kernel)
    operator = Conv(
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=per_axis(arguments["stride"], kernel),
        pads=_conv_pads(arguments["padding"], kernel, dilation),
        dilation=dilation,
        groups=arguments["groups"],
        bias=arguments["bias"] is not None,
    )
    return _add_weighted(assembly, call, operator, source, parameter, weight)


def _conv_pads(padding: Any, kernel: Shape, dilation: Shape) -> Pads:  # noqa: ANN401
    if padding == "valid":
        return tuple((0, 0) for _ in kernel)
    if padding == "same":  # torch puts the odd one at the end
        totals = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((pad, pad) for pad in per_axis(padding, kernel))


def linear(assembly: Assembly, call: Call) -> Value:
    """`linear`."""
    arguments = call.arguments()
    source = call.data(arguments["input"])
    parameter, weight = call.parameter("weight", arguments["weight"])
    operator = Linear(out_features=weight.shape[0], bias=arguments["bias"] is not None)
    return _add_weighted(assembly, call, operator, source, parameter, weight)


def _add_weighted(
    assembly: Assembly,
    call: Call,
    operator: Conv | Linear,
    source: Value,
    parameter: str,
    weight: Float32Array,
) -> Value:
    assembly.claim(parameter, call.label)
    values = {"weight": weight}
    if operator.bias:
        values["bias"] = call.parameter("bias", call.arguments()["bias"])[1]
    name = call.owner(parameter, operator.kind)
    return assembly.add_weighted(operator, source, name=name, values=values)


def batch_norm(assembly: Assembly, call: Call) -> Value:
    """`batch_norm`."""
    arguments = call.arguments()
    if arguments["running_mean"] is None or arguments["training"]:
        raise PlanError("it keeps no running statistics; use track_running_stats=True")
    if not arguments["momentum"]:
        raise PlanError("momentum=None (a cumulative mean) is not supported; use momentum=0.1")
    operator = BatchNorm(eps=arguments["eps"], momentum=arguments["momentum"])
    return _add_norm(assembly, call, operator, ("running_mean", "running_var"))


def group_norm(assembly: Assembly, call: Call) -> Value:
    """`group_norm`."""
    arguments = call.arguments()
    operator = GroupNorm(groups=arguments["num_groups"], eps=arguments["eps"])
    return _add_norm(assembly, call, operator)


def layer_norm(assembly: Assembly, call: Call) -> Value:
    """`layer_norm`."""
    arguments = call.arguments()
    operator = LayerNorm(axes=len(arguments["normalized_shape"]), eps=arguments["eps"])
    return _add_norm(assembly, call, operator)


def _add_norm(
    assembly: Assembly, call: Call, operator: Operator, statistics: tuple[str, ...] = ()
) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["input"])
    if arguments["weight"] is None or arguments["bias"] is None:
        raise PlanError("it has no scale and shift; use affine=True (elementwise_affine, bias)")
    values = {
        role: call.parameter(role, arguments[role])[1] for role in ("weight", "bias", *statistics)
    }
    parameter, _ = call.parameter("weight", arguments["weight"])
    assembly.claim(parameter, call.label)
    name = call.owner(parameter, operator.kind)
    return assembly.add(operator, source, name=name, values=values, shape=source.shape)


def pool(assembly: Assembly, call: Call) -> Value:
    """`max_pool1d`, `max_pool2d`, `avg_pool1d`, `avg_pool2d`."""
    arguments = call.arguments()
    source = call.data(arguments["self"])
    axes = source.shape[1:]
    kernel = per_axis(arguments["kernel_size"], axes)
    padding = per_axis(arguments["padding"], axes)
    if arguments["ceil_mode"]:
        raise PlanError("ceil_mode=True is not supported")
    if set(per_axis(arguments.get("dilation", 1), axes)) != {1}:
        raise PlanError(f"dilation={arguments['dilation']}; only dilation=1 is supported")
    if any(padding) and not arguments.get("count_include_pad", True):
        raise PlanError("count_include_pad=False with padding is not supported")
    if arguments.get("divisor_override") is not None:
        raise PlanError("divisor_override is not supported")
    kind = MaxPool if call.operator.startswith("max") else AvgPool
    operator = kind(
        kernel=kernel,
        stride=per_axis(arguments["stride"], axes) or kernel,
        pads=tuple((pad, pad) for pad in padding),
    )
    return assembly.add(operator, source, name=call.name(kind.kind))


def adaptive_pool(assembly: Assembly, call: Call) -> Value:
    """`adaptive_avg_pool1d`, `adaptive_avg_pool2d`, to one position."""
    arguments = call.arguments()
    source = call.data(arguments["self"])
    if set(arguments["output_size"]) != {1}:
        raise PlanError(f"output_size={arguments['output_size']}; only 1 is supported")
    return assembly.add(
        GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind), shape=call.shape()
    )


def mean(assembly: Assembly, call: Call) -> Value:
    """`mean` over all spatial axes."""
    arguments = call.arguments()
    source = call.data(arguments["self"])
    rank = len(source.shape) + 1
    axes = sorted(axis % rank for axis in arguments.get("dim") or ())
    if rank < 3 or axes != list(range(2, rank)):
        raise PlanError("only the mean over all spatial axes is supported")
    return assembly.add(
        GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind), shape=call.shape()
    )


def upsample(assembly: Assembly, call: Call) -> Value:
    """`upsample_nearest1d`, `upsample_nearest2d`, by whole numbers."""
    arguments = call.arguments()
    source, shape = call.data(arguments["input"]), call.shape()
    scale = tuple(new // old for new, old in zip(shape[1:], source.shape[1:], strict=True))
    factors = arguments["scale_factors"] or scale
    grown = tuple(old * step for old, step in zip(source.shape[1:], scale, strict=True))
    if grown != shape[1:] or tuple(factors) != scale:
        raise PlanError(
            f"it resizes {source.shape} to {shape}, factors {factors}; only whole factors are "
            "supported"
        )
    return assembly.add(Upsample(scale=scale), source, name=call.name(Upsample.kind))


def per_axis(sizes: Any, axes: Shape) -> Shape:  # noqa: ANN401
    """One size per spatial axis, from what torch wrote: an int, one for all, or one each."""
    if isinstance(sizes, int):
        return (sizes,) * len(axes)
    return tuple(sizes) * len(axes) if len(sizes) == 1 else tuple(sizes)
