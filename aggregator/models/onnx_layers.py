"""What ONNX operators with parameters become in a plan, and those that slide or resize.

A rule takes the assembly and one call, and returns the value that the call yields.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aggregator.models.assembly import Assembly, Value
from aggregator.models.onnx_call import Call, as_written
from aggregator.models.onnx_graph import Array
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
    Pads,
    Shape,
    Upsample,
)


def conv(assembly: Assembly, call: Call) -> Value:
    """`Conv`."""
    weight = call.constant(1, "weight")
    kernel: Shape = weight.shape[2:]
    attributes = call.attributes(group=1)
    dilation = tuple(attributes.get("dilations", [1] * len(kernel)))
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True))
    stride, pads = _window(attributes, reach, call.data())
    operator = Conv(
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=stride,
        pads=pads,
        dilation=dilation,
        groups=attributes["group"],
        bias=call.has_input(2),
    )
    values = {"weight": weight}
    if operator.bias:
        values["bias"] = call.constant(2, "bias")
    return _add_weighted(assembly, call, operator, values)


def gemm(assembly: Assembly, call: Call) -> Value:
    """`Gemm`."""
    attributes = call.attributes(alpha=1.0, beta=1.0, transA=0, transB=0)
    if (attributes["alpha"], attributes["beta"], attributes["transA"]) != (1.0, 1.0, 0):
        raise PlanError("only alpha=1, beta=1 and transA=0 are supported")
    weight = call.constant(1, "weight")
    weight = weight if attributes["transB"] else weight.T
    operator = Linear(out_features=weight.shape[0], bias=call.has_input(2))
    values = {"weight": weight}
    if operator.bias:
        values["bias"] = _bias(call.constant(2, "bias"), weight.shape[0])
    return _add_weighted(assembly, call, operator, values)


def matmul(assembly: Assembly, call: Call) -> Value:
    """A product with constant weights, together with the addition of a constant after it."""
    weight = call.constant(1, "weight")
    if weight.ndim != 2:
        raise PlanError(f"its weight has shape {weight.shape}; only two axes are supported")
    values = {"weight": weight.T}
    addition = call.reader()
    constant = addition.other_constant() if addition and addition.operator == "Add" else None
    owner = call.owner(1)
    if addition is not None and constant is not None:
        values["bias"] = _bias(constant[1], weight.shape[1])
        owner = owner or addition.owner(0, 1)
    operator = Linear(out_features=weight.shape[1], bias="bias" in values)
    value = _add_weighted(assembly, call, operator, values, owner=owner)
    if addition is not None and constant is not None:
        call.values[addition.node.output[0]] = value
    return value


def _bias(constant: Array, size: int) -> Array:
    """A bias as `(size,)`, from what broadcasts to it."""
    if constant.size not in (1, size):
        raise PlanError(f"its bias has shape {constant.shape}, not ({size},)")
    return np.broadcast_to(constant.ravel(), (size,))


def _add_weighted(
    assembly: Assembly,
    call: Call,
    operator: Conv | Linear,
    values: dict[str, Array],
    *,
    owner: str = "",
) -> Value:
    source = call.data()
    assembly.claim(call.node.input[1], call.label)
    name = owner or call.owner(1, 2) or call.name(operator.kind)
    return assembly.add_weighted(operator, source, name=name, values=values)


def batch_norm(assembly: Assembly, call: Call) -> Value:
    """`BatchNormalization`."""
    attributes = call.attributes(epsilon=1e-5, momentum=0.9, training_mode=0)
    if attributes["training_mode"]:
        raise PlanError("training_mode=1; export the model for evaluation")
    source = call.data()
    roles = ("weight", "bias", "running_mean", "running_var")
    values = {role: call.constant(index, role) for index, role in enumerate(roles, 1)}
    operator = BatchNorm(  # ONNX weighs the old statistics, torch and the plan the new ones
        eps=as_written(attributes["epsilon"]), momentum=as_written(1 - attributes["momentum"])
    )
    name = call.owner(1, 2) or call.name(operator.kind)
    return assembly.add(operator, source, name=name, values=values, shape=source.shape)


def layer_norm(assembly: Assembly, call: Call) -> Value:
    """`LayerNormalization`."""
    attributes = call.attributes(axis=-1, epsilon=1e-5)
    if not call.has_input(2):
        raise PlanError("it has no shift; export it with one")
    source = call.data()
    rank = len(source.shape) + 1
    operator = LayerNorm(
        axes=rank - attributes["axis"] % rank, eps=as_written(attributes["epsilon"])
    )
    values = {"weight": call.constant(1, "weight"), "bias": call.constant(2, "bias")}
    name = call.owner(1, 2) or call.name(operator.kind)
    return assembly.add(operator, source, name=name, values=values, shape=source.shape)


def group_norm(assembly: Assembly, call: Call) -> Value:
    """`GroupNormalization` of opset 21."""
    attributes = call.attributes(epsilon=1e-5)
    source = call.data()
    operator = GroupNorm(groups=attributes["num_groups"], eps=as_written(attributes["epsilon"]))
    values = {"weight": call.constant(1, "weight"), "bias": call.constant(2, "bias")}
    name = call.owner(1, 2) or call.name(operator.kind)
    return assembly.add(operator, source, name=name, values=values, shape=source.shape)


def instance_norm_of_groups(assembly: Assembly, call: Call) -> Value | None:
    """What older opsets write for group-norm, beginning with this `Reshape`; None if it is not.

    `Reshape, InstanceNormalization, Reshape, Mul, Add`: the normalisation is over the groups as if
    they were channels, then every channel has its scale and shift.
    """
    chain = [call]
    for kind in ("InstanceNormalization", "Reshape", "Mul", "Add"):
        following = chain[-1].reader()
        if following is None or following.operator != kind:
            return None
        chain.append(following)
    norm, scaling, shifting = chain[1], chain[3], chain[4]
    scale, shift = scaling.other_constant(), shifting.other_constant()
    plain = (norm.constant(1, "scale") == 1).all() and (norm.constant(2, "shift") == 0).all()
    if scale is None or shift is None or not plain:
        return None
    source = call.data()
    operator = GroupNorm(
        groups=norm.constant(1, "scale").size,
        eps=as_written(norm.attributes(epsilon=1e-5)["epsilon"]),
    )
    name = scaling.owner(0, 1) or shifting.name(operator.kind)
    values = {"weight": scale[1].ravel(), "bias": shift[1].ravel()}
    value = assembly.add(operator, source, name=name, values=values, shape=source.shape)
    for absorbed in chain:
        call.values[absorbed.node.output[0]] = value
    return value


def pool(assembly: Assembly, call: Call) -> Value:
    """`MaxPool`, `AveragePool`."""
    attributes = call.attributes(ceil_mode=0, count_include_pad=0)
    kernel = tuple(attributes["kernel_shape"])
    source = call.data()
    stride, pads = _window(attributes, kernel, source)
    if set(attributes.get("dilations", ())) - {1}:
        raise PlanError(f"dilations={attributes['dilations']}; a pool has none in a plan")
    if attributes["ceil_mode"]:
        raise PlanError("ceil_mode=1 is not supported")
    kind = MaxPool if call.node.op_type == "MaxPool" else AvgPool
    if kind is AvgPool and any(map(any, pads)) and not attributes["count_include_pad"]:
        raise PlanError("count_include_pad=0 with pads is not supported")
    if len(call.node.output) > 1 and call.node.output[1]:
        raise PlanError("its second output, the indices, is not supported")
    operator = kind(kernel=kernel, stride=stride, pads=pads)
    return assembly.add(operator, source, name=call.name(kind.kind))


def _window(attributes: dict[str, Any], kernel: Shape, source: Value) -> tuple[Shape, Pads]:
    """Stride and pads of a sliding window that spans `kernel`."""
    axes = len(kernel)
    stride = tuple(attributes.get("strides", [1] * axes))
    auto_pad = attributes.get("auto_pad", b"NOTSET").decode()
    if auto_pad.startswith("SAME"):
        return stride, _same_pads(kernel, stride, source.shape[1:], at_end=auto_pad == "SAME_UPPER")
    flat = attributes.get("pads", ()) if auto_pad == "NOTSET" else ()
    flat = flat or [0] * 2 * axes
    return stride, tuple(zip(flat[:axes], flat[axes:], strict=True))


def _same_pads(kernel: Shape, stride: Shape, spatial: Shape, *, at_end: bool) -> Pads:
    """Pads for an output of `ceil(input / stride)`; an odd one goes to the end or the start."""
    pads = []
    for size, step, length in zip(kernel, stride, spatial, strict=True):
        total = max((-(-length // step) - 1) * step + size - length, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if at_end else (more, less))
    return tuple(pads)


def global_avg_pool(assembly: Assembly, call: Call) -> Value:
    """`GlobalAveragePool`."""
    source = call.data()
    return assembly.add(
        GlobalAvgPool(),
        source,
        name=call.name(GlobalAvgPool.kind),
        shape=(source.shape[0], *(1 for _ in source.shape[1:])),
    )


def reduce_mean(assembly: Assembly, call: Call) -> Value:
    """`ReduceMean` over all spatial axes."""
    source = call.data()
    attributes = call.attributes(keepdims=1)
    axes = call.constant(1, "axes").tolist() if call.has_input(1) else attributes.get("axes", [])
    rank = len(source.shape) + 1
    if rank < 3 or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        raise PlanError("only the mean over all spatial axes is supported")
    if attributes["keepdims"]:
        return global_avg_pool(assembly, call)
    return assembly.add(GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind))


def upsample(assembly: Assembly, call: Call) -> Value:
    """`Resize` (and `Upsample`) to the nearest neighbour, by whole numbers."""
    attributes = call.attributes(
        mode=b"nearest",
        coordinate_transformation_mode=b"half_pixel",
        nearest_mode=b"round_prefer_floor",
    )
    if attributes["mode"] != b"nearest":
        raise PlanError(f"mode={attributes['mode'].decode()}; only nearest is supported")
    how = (attributes["coordinate_transformation_mode"], attributes["nearest_mode"])
    floors = how == (b"asymmetric", b"floor")
    rounds = how[0] in (b"half_pixel", b"pytorch_half_pixel") and how[1].startswith(b"round")
    if call.operator == "Resize" and not floors and not rounds:
        raise PlanError(f"{how[0].decode()} with {how[1].decode()} is not supported")
    source, shape = call.data(), call.shape()
    scale = tuple(new // old for new, old in zip(shape[1:], source.shape[1:], strict=True))
    grown = tuple(old * step for old, step in zip(source.shape[1:], scale, strict=True))
    if (shape[0], *grown) != (source.shape[0], *shape[1:]):
        raise PlanError(f"it resizes {source.shape} to {shape}; only whole factors are supported")
    return assembly.add(Upsample(scale=scale), source, name=call.name(Upsample.kind))
