"""What each operator of a torch graph becomes in a plan.

A rule takes the assembly and one call of the graph, and returns the value that the call yields. To
support another operator, add its rule to `RULES` under the name that torch's own schema gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aggregator.models.assembly import Assembly, UnplannedError, Value
from fedsparse.errors import PlanError
from fedsparse.plan import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Pads,
    Relu,
    Shape,
)
from fedsparse.types import Float32Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an operator in an exported torch graph.

    Attributes:
        node: the `torch.fx.Node`.
        values: what earlier nodes yielded.
        names: parameter names by the name of their placeholder.
        tensors: parameters and buffers by name.
    """

    node: Any
    values: Mapping[Any, Value]
    names: Mapping[str, str]
    tensors: Mapping[str, Any]

    @property
    def target(self) -> str:
        """The operator as torch writes it, such as `aten.conv2d.default`."""
        return str(self.node.target)

    @property
    def operator(self) -> str:
        """Its name without overload and in-place mark, such as `conv2d`."""
        parts = self.target.split(".")
        return parts[1].rstrip("_") if parts[0] == "aten" and len(parts) == 3 else self.target

    @property
    def is_in_place(self) -> bool:
        """Whether it overwrites its first input."""
        return self.operator in RULES and self.target.split(".")[1].endswith("_")

    @property
    def label(self) -> str:
        """Where it is in the module tree, for messages and names."""
        return self.name(self.operator)

    def name(self, kind: str) -> str:
        """The path of the torch layer that made the call, or of the module around it and `kind`."""
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        path, module = stack[-1] if stack else ("", "")
        is_layer = str(module).startswith("torch.nn.modules.") and ".container." not in str(module)
        if path and is_layer:
            return str(path)
        return f"{path}.{kind}" if path else kind

    def arguments(self) -> dict[str, Any]:
        """All arguments by name, with the defaults of torch's schema."""
        schema = self.node.target._schema.arguments
        bound = {item.name: item.default_value for item in schema if item.has_default_value()}
        bound.update(zip((item.name for item in schema), self.node.args, strict=False))
        bound.update(self.node.kwargs)
        return bound

    def shape(self) -> Shape:
        """The output's shape without the batch; raises `PlanError` when the batch is not kept."""
        source, result = (tuple(n.meta["val"].shape) for n in (self.node.args[0], self.node))
        if result[:1] != source[:1]:
            raise PlanError(f"it mixes samples: a batch of shape {source} becomes {result}")
        return tuple(int(size) for size in result[1:])

    def data(self, argument: Any) -> Value:  # noqa: ANN401
        """The value of an argument that flows through the model.

        Raises:
            PlanError: it is a parameter or a constant instead.
            UnplannedError: it comes from a node that could not be planned.
        """
        if getattr(argument, "name", None) in self.names:
            raise PlanError(f"it reads the parameter '{self.names[argument.name]}' as data")
        if argument not in self.values:
            raise PlanError(f"it reads the constant {argument!r}; only feature maps can be")
        if not self.values[argument].node:
            raise UnplannedError
        return self.values[argument]

    def parameter(self, role: str, argument: Any) -> tuple[str, Float32Array]:  # noqa: ANN401
        """Name and value of an argument that is a parameter; raises `PlanError` when it is not."""
        if argument is None:
            raise PlanError(f"it has no {role}; the runtime needs one")
        name = self.names.get(getattr(argument, "name", ""))
        if name is None:
            raise PlanError(f"its {role} is computed in the model; it must be a plain parameter")
        return name, np.asarray(self.tensors[name].detach().numpy(), np.float32)


def _conv(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["input"])
    parameter, weight = call.parameter("weight", arguments["weight"])
    kernel: Shape = weight.shape[2:]
    if arguments["groups"] != 1:
        raise PlanError(f"groups={arguments['groups']}; only groups=1 is supported")
    if set(arguments["dilation"]) != {1}:
        raise PlanError(f"dilation={arguments['dilation']}; only dilation=1 is supported")
    operator = Conv(
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=_per_axis(arguments["stride"], kernel),
        pads=_conv_pads(arguments["padding"], kernel),
        bias=arguments["bias"] is not None,
    )
    return _add_weighted(assembly, call, operator, source, parameter, weight)


def _conv_pads(padding: Any, kernel: Shape) -> Pads:  # noqa: ANN401
    if padding == "valid":
        return tuple((0, 0) for _ in kernel)
    if padding == "same":  # torch puts the odd one at the end
        return tuple(((size - 1) // 2, size - 1 - (size - 1) // 2) for size in kernel)
    return tuple((pad, pad) for pad in _per_axis(padding, kernel))


def _linear(assembly: Assembly, call: Call) -> Value:
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
    return assembly.add(operator, source, name=_owner(parameter, operator.kind), values=values)


def _owner(parameter: str, kind: str) -> str:
    """The node that owns a parameter, so that its tensor is called as in the state dict."""
    return parameter.removesuffix(".weight") if parameter != "weight" else kind


def _batch_norm(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["input"])
    if arguments["running_mean"] is None or arguments["training"]:
        raise PlanError("it keeps no running statistics; use track_running_stats=True")
    if arguments["weight"] is None:
        raise PlanError("it has no scale and shift; use affine=True")
    if not arguments["momentum"]:
        raise PlanError("momentum=None (a cumulative mean) is not supported; use momentum=0.1")
    roles = ("weight", "bias", "running_mean", "running_var")
    values = {role: call.parameter(role, arguments[role])[1] for role in roles}
    parameter, _ = call.parameter("weight", arguments["weight"])
    assembly.claim(parameter, call.label)
    operator = BatchNorm(eps=arguments["eps"], momentum=arguments["momentum"])
    return assembly.add(operator, source, name=_owner(parameter, operator.kind), values=values)


def _relu(assembly: Assembly, call: Call) -> Value:
    source = call.data(call.node.args[0])
    return assembly.add(Relu(), source, name=call.name(Relu.kind), shape=source.shape)


def _pool(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["self"])
    axes = source.shape[1:]
    kernel = _per_axis(arguments["kernel_size"], axes)
    padding = _per_axis(arguments["padding"], axes)
    if arguments["ceil_mode"]:
        raise PlanError("ceil_mode=True is not supported")
    if set(_per_axis(arguments.get("dilation", 1), axes)) != {1}:
        raise PlanError(f"dilation={arguments['dilation']}; only dilation=1 is supported")
    if any(padding) and not arguments.get("count_include_pad", True):
        raise PlanError("count_include_pad=False with padding is not supported")
    if arguments.get("divisor_override") is not None:
        raise PlanError("divisor_override is not supported")
    kind = MaxPool if call.operator.startswith("max") else AvgPool
    operator = kind(
        kernel=kernel,
        stride=_per_axis(arguments["stride"], axes) or kernel,
        pads=tuple((pad, pad) for pad in padding),
    )
    return assembly.add(operator, source, name=call.name(kind.kind))


def _adaptive_pool(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["self"])
    if set(arguments["output_size"]) != {1}:
        raise PlanError(f"output_size={arguments['output_size']}; only 1 is supported")
    return assembly.add(
        GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind), shape=call.shape()
    )


def _mean(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source = call.data(arguments["self"])
    rank = len(source.shape) + 1
    axes = sorted(axis % rank for axis in arguments.get("dim") or ())
    if rank < 3 or axes != list(range(2, rank)):
        raise PlanError("only the mean over all spatial axes is supported")
    return assembly.add(
        GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind), shape=call.shape()
    )


def _add(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    if arguments["alpha"] != 1:
        raise PlanError(f"alpha={arguments['alpha']}; only alpha=1 is supported")
    left, right = call.data(arguments["self"]), call.data(arguments["other"])
    if left.shape != right.shape:
        raise PlanError(f"it broadcasts {left.shape} and {right.shape}; shapes must be equal")
    return assembly.add(Add(), left, right, name=call.name(Add.kind), shape=left.shape)


def _view(assembly: Assembly, call: Call) -> Value:
    return assembly.reshape(call.data(call.node.args[0]), call.shape(), name=call.name("flatten"))


def _same(assembly: Assembly, call: Call) -> Value:
    return call.data(call.node.args[0])


def _dropout(assembly: Assembly, call: Call) -> Value:
    if call.arguments()["p"] > 0:
        raise PlanError("dropout is not trained by the runtime; remove it, or set p=0")
    return call.data(call.node.args[0])


def _softmax(assembly: Assembly, call: Call) -> Value:
    source = call.data(call.node.args[0])
    axis = call.arguments()["dim"] % (len(source.shape) + 1)
    if axis != 1 or any(user.op != "output" for user in call.node.users):
        raise PlanError("only a softmax over the classes at the very end is supported")
    assembly.softmax = call.operator
    assembly.notes.append(f"the last {call.operator} is dropped: the loss is taken on logits")
    return source


def _per_axis(sizes: Any, axes: Shape) -> Shape:  # noqa: ANN401
    """One size per spatial axis, from what torch wrote: an int, one for all, or one each."""
    if isinstance(sizes, int):
        return (sizes,) * len(axes)
    return tuple(sizes) * len(axes) if len(sizes) == 1 else tuple(sizes)


Rule = Callable[[Assembly, Call], Value]
RULES: Final[dict[str, Rule]] = {
    "conv1d": _conv, "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "max_pool1d": _pool, "max_pool2d": _pool, "avg_pool1d": _pool, "avg_pool2d": _pool,
    "adaptive_avg_pool1d": _adaptive_pool, "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "add": _add,
    "flatten": _view, "view": _view, "reshape": _view, "squeeze": _view, "unsqueeze": _view,
    "contiguous": _same, "clone": _same, "detach": _same, "alias": _same,
    "dropout": _dropout, "feature_dropout": _dropout,
    "softmax": _softmax, "log_softmax": _softmax,
}  # fmt: skip
