"""An aten graph as an ONNX model of standard operators (opset 18), node by node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import sympy
import torch
from onnx import TensorProto, helper, numpy_helper

from fedsparse.errors import PlanError

OPSET: Final = 18  # what the oldest onnxruntime that boards get (1.19) reads
IR_VERSION: Final = 8
BATCH: Final = "batch"

Output: TypeAlias = "str | tuple[str, ...]"
Rule: TypeAlias = "Callable[[Emitter, Call], Output]"

ELEMENT_TYPES: Final = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.bool: TensorProto.BOOL,
}
_NUMPY: Final = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an aten operator, with all its arguments by their names in torch's schema."""

    node: Any  # torch.fx.Node
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        return self.arguments[name]

    @property
    def out(self) -> torch.Tensor:
        """Shape and type of the result; of the first one where there are several."""
        value = self.node.meta["val"]
        first: torch.Tensor = value[0] if isinstance(value, tuple | list) else value
        return first

    def meta(self, name: str) -> torch.Tensor:
        """Shape and type of a tensor argument."""
        value: torch.Tensor = self.arguments[name].meta["val"]
        return value


class Emitter:
    """Collects nodes and constants; an expression that was written once is not written again."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self.values: dict[Any, Output] = {}

    # What rules write with.

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        """Append a node with one output, and return that."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: int,
        **attributes: Any,  # noqa: ANN401
    ) -> tuple[str, ...]:
        """Append a node with several outputs."""
        key = (operator, tuple(inputs), outputs, repr(sorted(attributes.items())))
        if key not in self._known:
            names = tuple(f"t{len(self._nodes)}_{i}" for i in range(outputs))
            self._nodes.append(helper.make_node(operator, list(inputs), list(names), **attributes))
            self._known[key] = names
        return self._known[key]

    def constant(self, array: npt.NDArray[Any]) -> str:
        """An initializer; equal ones are one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._constants[key]

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64).reshape(len(values)))

    def number(self, value: Any, dtype: torch.dtype) -> str:  # noqa: ANN401
        """A scalar: a Python number, or one that depends on the batch size."""
        expression = _expression(value)
        if not isinstance(expression, sympy.Basic):
            return self.constant(np.array(expression, _NUMPY[dtype]).reshape(()))
        return self.add(
            "Cast", self.add("Reshape", self._evaluate(expression), self.ints([])),
            to=ELEMENT_TYPES[dtype],
        )  # fmt: skip

    def tensor(self, value: Any, dtype: torch.dtype) -> str:  # noqa: ANN401
        """An operand in the type of a result: a tensor, cast where it must be, or a number."""
        if isinstance(value, torch.fx.Node) and isinstance(value.meta["val"], torch.Tensor):
            return self.cast(self.value(value), value.meta["val"].dtype, dtype)
        return self.number(value, dtype)

    def cast(self, name: str, source: torch.dtype, target: torch.dtype) -> str:
        """A value in another type."""
        return name if source == target else self.add("Cast", name, to=ELEMENT_TYPES[target])

    def value(self, node: Any) -> str:  # noqa: ANN401
        """What a traced tensor is called here."""
        name = self.values[node]
        if not isinstance(name, str):
            raise PlanError(f"node '{node.name}': its results are used as one tensor")
        return name

    def sizes(self, sizes: Sequence[Any]) -> str:
        """An int64 vector of sizes, some of which may depend on the batch size."""
        parts = [_expression(size) for size in sizes]
        if not any(isinstance(part, sympy.Basic) for part in parts):
            return self.ints(parts)
        names = [
            self.add("Cast", self._evaluate(part), to=TensorProto.INT64)
            if isinstance(part, sympy.Basic)
            else self.ints([part])
            for part in parts
        ]
        return self.add("Concat", *names, axis=0)

    def reshape(self, name: str, sizes: Sequence[Any]) -> str:
        """A value in another shape; a single size that depends on the batch is inferred."""
        parts = [_expression(size) for size in sizes]
        free = [part for part in parts if isinstance(part, sympy.Basic)]
        if len(free) > 1:
            return self.add("Reshape", name, self.sizes(sizes))
        wanted = [-1 if isinstance(part, sympy.Basic) else part for part in parts]
        return self.add("Reshape", name, self.ints(wanted))

    def _evaluate(self, expression: sympy.Basic) -> str:
        """A float64 vector of one element, exact for every size that a tensor can have."""
        if expression.is_Symbol:
            size = self.add("Shape", "samples", start=0, end=1)
            return self.add("Cast", size, to=TensorProto.DOUBLE)
        if expression.is_number:
            return self.constant(np.array([float(expression)], np.float64))
        kind = type(expression).__name__
        parts = [self._evaluate(argument) for argument in expression.args]
        if kind in ("Add", "Mul"):
            total = parts[0]
            for part in parts[1:]:
                total = self.add(kind, total, part)
            return total
        if kind == "Pow":
            return self.add("Pow", *parts)
        if kind == "ToFloat":
            return parts[0]
        if kind in ("IntTrueDiv", "FloatTrueDiv", "FloorDiv"):
            ratio = self.add("Div", *parts)
            return self.add("Floor", ratio) if kind == "FloorDiv" else ratio
        raise PlanError(f"a size of {expression}: no rule for {kind}")

    # The model.

    def run(self, graph: torch.fx.GraphModule, inputs: Sequence[str]) -> list[str]:
        """Write all nodes; returns the names of the graph's outputs.

        Raises:
            PlanError: operators without a rule, all of them, by node.
        """
        problems = []
        names = iter(inputs)
        outputs: list[str] = []
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = next(names)
            elif node.op == "get_attr":
                constant = getattr(graph, node.target).detach().numpy()
                self.values[node] = self.constant(constant)
            elif node.op == "output":
                missing = [v for v in node.args[0] if v not in self.values]
                outputs = [] if missing else [self.value(v) for v in node.args[0]]
            elif isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | int | float):
                continue  # arithmetic of sizes: read from the results, where they are needed
            elif problem := self._call(node):
                problems.append(problem)
        if problems:
            raise PlanError("; ".join(dict.fromkeys(problems)))
        return outputs

    def _call(self, node: Any) -> str:  # noqa: ANN401
        """Write one call; returns what is wrong, nothing where it only follows from a problem."""
        target = str(node.target)
        if any(source not in self.values and _is_tensor(source) for source in node.all_input_nodes):
            return ""
        if target == "<built-in function getitem>":
            self.values[node] = self.values[node.args[0]][node.args[1]]
            return ""
        rule = self._rules.get(target.removeprefix("aten.").removesuffix(".default"))
        if rule is None:
            return f"operator {target} (node '{node.name}') has no standard ONNX operators here"
        try:
            self.values[node] = rule(self, Call(node, _arguments(node)))
        except PlanError as error:
            return f"operator {target} (node '{node.name}'): {error}"
        return ""

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Mapping[str, str],
        results: Sequence[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        """The model with these inputs and outputs, without what no output needs.

        Args:
            name: of the graph.
            inputs: of the model.
            outputs: the value of each output.
            results: shapes and types of the outputs.
        """
        nodes = [
            *self._nodes,
            *(helper.make_node("Identity", [value], [name]) for name, value in outputs.items()),
        ]
        needed = set(outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        graph = helper.make_graph(
            kept[::-1],
            name,
            list(inputs),
            list(results),
            [value for key, value in self._initializers.items() if key in needed],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="fedsparse",
        )  # fmt: skip


def _arguments(node: Any) -> dict[str, Any]:  # noqa: ANN401
    schema = node.target._schema.arguments
    given = dict(zip((argument.name for argument in schema), node.args, strict=False))
    defaults = {argument.name: argument.default_value for argument in schema}
    return {**defaults, **given, **node.kwargs}


def _is_tensor(node: Any) -> bool:  # noqa: ANN401
    return not isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | int | float)


def _expression(value: Any) -> Any:  # noqa: ANN401
    """A Python number, or a sympy expression of the batch size."""
    if isinstance(value, torch.fx.Node):
        value = value.meta["val"]
    if isinstance(value, torch.SymInt | torch.SymFloat):
        value = value.node.expr
    if isinstance(value, sympy.Basic) and value.is_number:
        return int(value) if value.is_Integer else float(value)
    return value


def concrete(sizes: Sequence[Any]) -> list[int]:
    """Sizes that must not depend on the batch size.

    Raises:
        PlanError: they do.
    """
    parts = [_expression(size) for size in sizes]
    if any(isinstance(part, sympy.Basic) for part in parts):
        raise PlanError(f"sizes {tuple(sizes)} that depend on the batch size")
    return [int(part) for part in parts]


def is_free(size: Any) -> bool:  # noqa: ANN401
    """Whether a size depends on the batch size."""
    return isinstance(_expression(size), sympy.Basic)


def product(sizes: Sequence[Any]) -> Any:  # noqa: ANN401
    """Of sizes that may depend on the batch size."""
    return math.prod(_expression(size) for size in sizes)
