"""One call of an operator in a torch graph, and what its arguments are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aggregator.models.assembly import UnplannedError, Value
from fedsparse.errors import PlanError
from fedsparse.plan import Shape
from fedsparse.types import Float32Array


def operator_name(node: Any) -> str:  # noqa: ANN401
    """Of a `torch.fx.Node`: the operator's name without overload and in-place mark."""
    parts = str(node.target).split(".")
    return parts[1].rstrip("_") if parts[0] == "aten" and len(parts) == 3 else str(node.target)


def is_in_place(node: Any) -> bool:  # noqa: ANN401
    """Whether a `torch.fx.Node` overwrites its first input."""
    parts = str(node.target).split(".")
    return parts[0] == "aten" and len(parts) == 3 and parts[1].endswith("_")


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
        return operator_name(self.node)

    @property
    def is_in_place(self) -> bool:
        """Whether it overwrites its first input."""
        return is_in_place(self.node)

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

    def owner(self, parameter: str, kind: str) -> str:
        """The layer that owns a parameter, so that its tensor is called as in the state dict."""
        return parameter.removesuffix(".weight") if parameter != "weight" else kind
