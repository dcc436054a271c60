"""One node of an ONNX graph, and what its inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from aggregator.models.assembly import UnplannedError, Value
from aggregator.models.onnx_graph import OWN_DOMAINS, Array, OnnxGraph, attributes_of
from fedsparse.errors import PlanError
from fedsparse.plan import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One node of an ONNX graph.

    Attributes:
        node: the node.
        graph: where it is.
        values: what earlier nodes yielded; a rule may add the output of a node that it absorbs.
    """

    node: onnx.NodeProto
    graph: OnnxGraph
    values: dict[str, Value]

    @property
    def operator(self) -> str:
        """Its kind, with the domain where that is not ONNX's own."""
        own = self.node.domain in OWN_DOMAINS
        return str(self.node.op_type if own else f"{self.node.domain}.{self.node.op_type}")

    @property
    def label(self) -> str:
        """How messages call it."""
        return str(self.node.name or self.node.output[0])

    def name(self, kind: str) -> str:
        """A name for its plan node: `/blocks/0/relu/Relu` is `blocks.0.relu`."""
        path = self.node.name.strip("/").removesuffix(self.node.op_type).strip("/")
        return path.replace("/", ".") or kind

    def attributes(self, **defaults: Any) -> dict[str, Any]:  # noqa: ANN401
        """The node's attributes, over defaults."""
        return {**defaults, **attributes_of(self.node)}

    def data(self, index: int = 0) -> Value:
        """The value of an input that flows through the model.

        Raises:
            PlanError: it is a constant.
            UnplannedError: it comes from a node that could not be planned.
        """
        name = self.node.input[index]
        if name in self.graph.constants:
            raise PlanError(f"its input '{name}' is a constant; only feature maps can be")
        return self.value(name)

    def value(self, name: str) -> Value:
        """What a name stands for; raises `UnplannedError` where it could not be planned."""
        if name not in self.values or not self.values[name].node:
            raise UnplannedError
        return self.values[name]

    def constant(self, index: int, role: str) -> Array:
        """An input that must be a constant."""
        name = self.node.input[index]
        if name not in self.graph.constants:
            raise PlanError(f"its {role} '{name}' is computed in the model; it must be a constant")
        return self.graph.constants[name]

    def owner(self, *inputs: int) -> str:
        """The layer that initialisers belong to, from `<layer>.weight` or `.bias`; else ''."""
        for index in inputs:
            if self.has_input(index):
                layer, _, parameter = str(self.node.input[index]).rpartition(".")
                if layer and parameter in ("weight", "bias"):
                    return layer
        return ""

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def reader(self) -> Call | None:
        """The only reader of the node's output; None where there is none, or several."""
        output = self.node.output[0]
        readers = [node for node in self.graph.nodes if output in node.input]
        if len(readers) != 1 or output == self.graph.output:
            return None
        return Call(node=readers[0], graph=self.graph, values=self.values)

    def other_constant(self) -> tuple[str, Array] | None:
        """Name and value of the constant among two inputs."""
        for name in self.node.input:
            if name in self.graph.constants:
                return str(name), self.graph.constants[name]
        return None

    def shape(self) -> Shape:
        """The output's shape without the batch; raises `PlanError` when the batch is not kept."""
        shape = self.graph.shapes.get(self.node.output[0], ())
        if not shape:
            raise PlanError("the shape of its output cannot be found; export with static shapes")
        if shape[0] != self.graph.batch:
            raise PlanError(
                f"it mixes samples: a batch of {self.graph.batch} becomes {shape}; export the "
                "model with a dynamic batch"
            )
        return shape[1:]


def as_written(number: float) -> float:
    """The decimal number that a float32 attribute stands for."""
    return float(f"{number:.6g}")
