"""The layer plan: a model as data, known to gateway and device alike, without torch or onnx."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fedsparse.errors import PlanError
from fedsparse.plan.loss import Loss
from fedsparse.plan.opaque import GraphModel, is_graph_digest
from fedsparse.plan.operator import Operator, Shape, Tensor
from fedsparse.plan.operators import from_attributes, to_attributes

FORMAT: Final = "fedsparse.plan"
VERSION: Final = 2
INPUT: Final = "input"
MAX_NODES: Final = 2_000
MAX_PARAMETERS: Final = 2**31 - 1
MAX_VALUES: Final = 2**31 - 1  # of one node, for one sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator at work: its name, the names of the nodes it reads, and its attributes."""

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A model as a list of nodes in an order in which they can be run.

    The last node's output is what the loss reads, of shape `(outputs,)`: logits, or with
    `Loss.MSE` the prediction itself.
    Every flat vector of prunable (or dense) values in the project follows the order of
    `prunable` (or `dense`).

    Attributes:
        name: the model's name.
        input_shape: one sample's shape, `(channels, *spatial)` or `(features,)`.
        nodes: topologically ordered; an input is `"input"` or the name of an earlier node.
        loss: what it is trained for.
        graph: SHA-256 of a training graph of the model, hexadecimal, which devices with onnxruntime
            may take instead of its operators; of a model that is a training graph, of this one.
            Empty: there is none.

    Raises:
        PlanError: a name used twice, an unknown or later input, shapes that do not fit.
    """

    name: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    loss: Loss = Loss.CROSS_ENTROPY
    graph: str = ""
    shapes: dict[str, Shape] = field(init=False, repr=False, compare=False)
    tensors: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        _check_number(self.nodes)
        if not self.input_shape or any(
            type(size) is not int or not 0 < size < 2**31 for size in self.input_shape
        ):
            raise PlanError(f"the input shape must be positive sizes, got {self.input_shape}")
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        tensors: list[Tensor] = []
        for node in self.nodes:
            inputs = _input_shapes(node, shapes)
            try:
                shapes[node.name] = node.operator.output_shape(inputs)
                tensors.extend(node.operator.tensors(node.name, inputs))
            except PlanError as error:
                raise PlanError(f"node '{node.name}': {error}") from error
            _check_size(node, shapes[node.name])
        if len(self.nodes) > 1 and any(isinstance(n.operator, GraphModel) for n in self.nodes):
            raise PlanError("a model that is a training graph has that one node and no other")
        _check_outputs(shapes[self.nodes[-1].name], self.loss)
        object.__setattr__(self, "graph", _checked_graph(self.graph, self.nodes[0].operator))
        if not any(tensor.prunable for tensor in tensors):
            raise PlanError("the plan has no prunable tensor: nothing could be sparse")
        if sum(tensor.size for tensor in tensors) > MAX_PARAMETERS:
            raise PlanError(f"a plan has at most {MAX_PARAMETERS} parameters")
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "tensors", tuple(tensors))
        object.__setattr__(self, "digest", hashlib.sha256(self.to_json().encode()).hexdigest())

    @property
    def is_opaque(self) -> bool:
        """Whether it is a training graph: no operators say what it does."""
        return isinstance(self.nodes[0].operator, GraphModel)

    @property
    def classes(self) -> int:
        """Outputs of the last node: the classes, where the loss is cross-entropy."""
        return self.shapes[self.nodes[-1].name][0]

    @property
    def prunable(self) -> tuple[Tensor, ...]:
        """The tensors that masks apply to, in plan order."""
        return tuple(tensor for tensor in self.tensors if tensor.prunable)

    @property
    def dense(self) -> tuple[Tensor, ...]:
        """The tensors that stay dense, in plan order."""
        return tuple(tensor for tensor in self.tensors if not tensor.prunable)

    @property
    def num_prunable(self) -> int:
        """Elements of all prunable tensors."""
        return sum(tensor.size for tensor in self.prunable)

    @property
    def num_dense(self) -> int:
        """Elements of all dense tensors."""
        return sum(tensor.size for tensor in self.dense)

    def kept(self, density: float) -> int:
        """Number of prunable weights that density `density` in (0, 1] keeps: the exact budget.

        Every prunable tensor keeps at least one weight.
        """
        return max(len(self.prunable), min(self.num_prunable, round(density * self.num_prunable)))

    def to_json(self) -> str:
        """The canonical text of the plan; its SHA-256 is the plan's digest."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "input": self.input_shape,
            "loss": self.loss.value,
            "nodes": [
                {
                    "name": node.name,
                    "op": node.operator.kind,
                    "inputs": node.inputs,
                    **to_attributes(node.operator),
                }
                for node in self.nodes
            ],
        }
        if self.graph and not self.is_opaque:
            document["graph"] = self.graph
        return json.dumps(document, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Parse and check a plan; raises `PlanError` with the node at fault."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"not a plan: {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise PlanError(f'not a plan: the key "format" must be "{FORMAT}"')
        if document.get("version") != VERSION:
            raise PlanError(f"plan version {document.get('version')!r}: this build reads {VERSION}")
        nodes = document.get("nodes")
        shape = document.get("input")
        if not isinstance(nodes, list) or not isinstance(shape, list):
            raise PlanError('a plan needs the lists "input" and "nodes"')
        _check_number(nodes)
        return cls(
            name=str(document.get("name", "model")),
            input_shape=tuple(shape),
            nodes=_ordered([_parse_node(index, node) for index, node in enumerate(nodes)]),
            loss=_parse_loss(document.get("loss", Loss.CROSS_ENTROPY)),
            graph=document.get("graph", ""),
        )


def _check_number(nodes: Sequence[object]) -> None:
    if not 0 < len(nodes) <= MAX_NODES:
        raise PlanError(f"a plan has 1 to {MAX_NODES} nodes, this one {len(nodes)}")


def _check_size(node: Node, shape: Shape) -> None:
    if math.prod(shape) > MAX_VALUES:
        raise PlanError(f"node '{node.name}' yields {shape}: more than {MAX_VALUES} values")


def _check_outputs(shape: Shape, loss: Loss) -> None:
    if len(shape) == 1 and shape[0] >= loss.least_outputs:
        return
    if loss is Loss.CROSS_ENTROPY:
        raise PlanError(
            f"the last node must yield two or more logits, it yields {shape}; a single yes or no "
            'is for the loss "bce"'
        )
    raise PlanError(f"the last node must yield a vector, (outputs,), it yields {shape}")


def _checked_graph(digest: Any, first: Operator) -> str:  # noqa: ANN401
    """The digest of the training graph, from the plan or from the operator that is one."""
    if isinstance(first, GraphModel):
        if digest not in ("", first.graph):
            raise PlanError("a model that is a training graph cannot have another one")
        return first.graph
    if digest != "" and not is_graph_digest(digest):
        raise PlanError(f'"graph" must be a SHA-256 in hexadecimal, got {digest!r}')
    return str(digest)


def _parse_loss(name: Any) -> Loss:  # noqa: ANN401
    known = [loss.value for loss in Loss]
    if not isinstance(name, str) or name not in known:
        raise PlanError(f'"loss" must be one of {", ".join(known)}, got {name!r}')
    return Loss(name)


def _parse_node(index: int, document: Any) -> Node:  # noqa: ANN401
    if not isinstance(document, dict):
        raise PlanError(f"node {index} is not an object")
    rest = dict(document)
    name, kind, inputs = rest.pop("name", None), rest.pop("op", None), rest.pop("inputs", None)
    if not isinstance(name, str) or not name or not isinstance(kind, str):
        raise PlanError(f'node {index} needs the strings "name" and "op"')
    if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise PlanError(f"node '{name}' needs \"inputs\", a list of node names")
    return Node(
        name=name, operator=from_attributes(kind, rest, f"node '{name}'"), inputs=tuple(inputs)
    )


def _ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes in a runnable order (the given one where it is); raises on a cycle."""
    names = {node.name for node in nodes}
    for node in nodes:
        for source in node.inputs:
            if source != INPUT and source not in names:
                raise PlanError(f"node '{node.name}' reads '{source}', which does not exist")
    done, ordered, waiting = {INPUT}, [], list(nodes)
    while waiting:
        ready = [node for node in waiting if done.issuperset(node.inputs)]
        if not ready:
            raise PlanError(f"the nodes {[node.name for node in waiting]} form a cycle")
        for node in ready[:1]:
            done.add(node.name)
            ordered.append(node)
            waiting.remove(node)
    return tuple(ordered)


def check_arity(node: Node) -> None:
    """Raise `PlanError` where a node is given a number of inputs that its operator cannot read."""
    operator = node.operator
    if not operator.reads(len(node.inputs)):
        more = " or more" if operator.variadic else ""
        raise PlanError(
            f"node '{node.name}': {operator.kind} reads {operator.arity}{more} inputs, "
            f"it is given {len(node.inputs)}"
        )


def _input_shapes(node: Node, shapes: dict[str, Shape]) -> tuple[Shape, ...]:
    if node.name in shapes:
        raise PlanError(f"two nodes are called '{node.name}'")
    check_arity(node)
    for source in node.inputs:
        if source not in shapes:
            raise PlanError(f"node '{node.name}' reads '{source}', which no earlier node yields")
    return tuple(shapes[source] for source in node.inputs)
