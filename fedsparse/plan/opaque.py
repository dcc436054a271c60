"""A model that the plan's operators cannot express: its tensors, and a training graph by digest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Operator, Role, Shape, Tensor

Described = tuple[str, Shape, str, bool, int]  # name, shape, role, prunable, fan-in


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphModel(Operator):
    """A whole model in one node, which only the `graph` engine runs.

    Masks, methods, the wire and aggregation work as ever: they know a model by its tensors. Their
    names are those of the source's state dict, without the node's.

    Attributes:
        outputs: the model's outputs for one sample.
        parameters: its tensors in order, each `(name, shape, role, prunable, fan_in)`.
        normalises: whether a batch-norm is in it, so that samples of a batch depend on each other.
        graph: SHA-256 of the training graph's file, hexadecimal.
    """

    kind: ClassVar[str] = "graph"
    outputs: int
    parameters: tuple[Described, ...]
    normalises: bool
    graph: str

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(outputs,)`."""
        return (self.outputs,)

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """As declared."""
        return tuple(
            Tensor(name=name, shape=shape, role=Role(role), prunable=prunable, fan_in=fan_in)
            for name, shape, role, prunable, fan_in in self.parameters
        )

    @property
    def normalises_batch(self) -> bool:
        """See `Operator`."""
        return self.normalises


def described(tensor: Tensor) -> Described:
    """A tensor as the plan file has it."""
    return (tensor.name, tensor.shape, tensor.role.value, tensor.prunable, tensor.fan_in)


def is_graph_digest(value: object) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def parse_graph_model(attributes: dict[str, Any], where: str) -> GraphModel:
    """Build the operator from JSON attributes; raises `PlanError` naming `where`."""
    wanted = {"outputs", "parameters", "normalises", "graph"}
    if attributes.keys() != wanted:
        raise PlanError(f"{where}: graph has exactly the attributes {', '.join(sorted(wanted))}")
    outputs, normalises, graph = (attributes[k] for k in ("outputs", "normalises", "graph"))
    if not _is_count(outputs, 1):
        raise PlanError(f"{where}: graph cannot have outputs={outputs!r}")
    if not isinstance(normalises, bool):
        raise PlanError(f"{where}: graph cannot have normalises={normalises!r}")
    if not is_graph_digest(graph):
        raise PlanError(f"{where}: 'graph' must be a SHA-256 in hexadecimal")
    items = attributes["parameters"]
    if not isinstance(items, list | tuple):
        raise PlanError(f"{where}: 'parameters' must be a list")
    parameters = tuple(_parse(item, where) for item in items)
    names = [parameter[0] for parameter in parameters]
    if len(set(names)) != len(names):
        raise PlanError(f"{where}: two parameters have one name")
    return GraphModel(outputs=outputs, parameters=parameters, normalises=normalises, graph=graph)


def _parse(item: Any, where: str) -> Described:  # noqa: ANN401
    if isinstance(item, list | tuple) and len(item) == 5:
        name, shape, role, prunable, fan_in = item
        is_shape = isinstance(shape, list | tuple) and all(_is_count(size, 1) for size in shape)
        known = isinstance(role, str) and role in [known.value for known in Role]
        if (
            isinstance(name, str) and name and is_shape and known and isinstance(prunable, bool)
            and _is_count(fan_in, 0) and math.prod(shape) < 2**31
            and not (prunable and role != Role.WEIGHT.value)
            and not (role == Role.WEIGHT.value and fan_in == 0)
        ):  # fmt: skip
            return (name, tuple(shape), role, prunable, fan_in)
    raise PlanError(
        f"{where}: a parameter is [name, shape, role, prunable, fan_in], and only a weight can be "
        f"pruned; got {str(item)[:80]}"
    )


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31
