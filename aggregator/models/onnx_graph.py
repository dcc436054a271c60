"""An ONNX file made ready for import: constants gathered, every shape known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Shape

MIN_OPSET: Final = 9
BATCH: Final = 3  # of a dynamic batch; shows where a model confuses it with another axis
OWN_DOMAINS: Final = ("", "ai.onnx")
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """What the importer reads.

    Attributes:
        nodes: in a runnable order, without those that only compute constants.
        constants: initialisers and computed constants by name.
        shapes: of every value whose shape could be inferred, with the batch.
        input: name of the only input; `output` of the only output.
        batch: size of the batch axis in `shapes`.
        opset: version of ONNX's own operators.
    """

    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    input: str
    output: str
    batch: int
    opset: int

    @property
    def input_shape(self) -> Shape:
        """One sample's shape."""
        return self.shapes[self.input][1:]


def load_graph(path: Path, input_shape: Shape | None = None) -> OnnxGraph:
    """Read and check an ONNX file.

    Args:
        path: the file; external data is read from its folder.
        input_shape: one sample's shape, needed where the file leaves axes beside the batch open.

    Raises:
        ConfigError: the file is missing or not ONNX.
        PlanError: more than one input or output, open axes, or inconsistent shapes.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except Exception as error:  # protobuf and the checker raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"{path}: not a valid ONNX model: {reason}") from error
    try:
        return _graph(model, input_shape)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node that are set, as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _graph(model: onnx.ModelProto, input_shape: Shape | None) -> OnnxGraph:
    opset = max(
        (item.version for item in model.opset_import if item.domain in OWN_DOMAINS), default=0
    )
    if opset < MIN_OPSET:
        raise PlanError(f"opset {opset} is too old; export it again with opset 17")
    initialised = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in initialised]
    outputs = [item.name for item in model.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise PlanError(
            f"a classifier has one input and one output; this model has "
            f"{[item.name for item in inputs]} and {outputs}"
        )
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise PlanError(f"the input '{inputs[0].name}' must be float32")
    fixed = _fixed_shape(inputs[0], input_shape)
    nodes, constants = _split_constants(model.graph)
    return OnnxGraph(
        nodes=tuple(nodes),
        constants=constants,
        shapes=_infer_shapes(model, inputs[0].name, fixed),
        input=inputs[0].name,
        output=outputs[0],
        batch=fixed[0],
        opset=opset,
    )


def _fixed_shape(value: onnx.ValueInfoProto, input_shape: Shape | None) -> Shape:
    """The input's shape with a concrete batch."""
    axes = value.type.tensor_type.shape.dim
    sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in axes]
    if len(sizes) < 2:
        raise PlanError(f"the input '{value.name}' has {len(sizes)} axes; expected (batch, ...)")
    wanted = input_shape or tuple(sizes[1:])
    fits = len(wanted) == len(sizes) - 1 and all(
        size in (0, want) for size, want in zip(sizes[1:], wanted, strict=True)
    )
    if not fits:
        raise PlanError(f"--input {input_shape} does not fit the input '{value.name}' {sizes[1:]}")
    if not all(wanted):
        raise PlanError(f"the input '{value.name}' {sizes[1:]} has open axes: give --input")
    return (sizes[0] or BATCH, *wanted)


def _infer_shapes(model: onnx.ModelProto, input_name: str, shape: Shape) -> dict[str, Shape]:
    """Shapes of all values when the input has `shape`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.input:
        if value.name == input_name:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(input_name, kind, shape))
    for node in fixed.graph.node:
        if node.op_type == "GroupNormalization":  # onnx cannot infer that its shape stays
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise PlanError(f"samples of shape {shape[1:]} do not fit: {reason}") from error
    graph = inferred.graph
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for group in (graph.input, graph.value_info, graph.output)
        for value in group
        if all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
    }


def _split_constants(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """The nodes that work on samples, and every constant by name."""
    constants: dict[str, Array] = {
        item.name: numpy_helper.to_array(item) for item in graph.initializer
    }
    nodes = []
    for node in graph.node:
        known = [constants.get(name) for name in node.input if name]
        value = None if any(item is None for item in known) else _constant(node, known)
        if value is None:
            nodes.append(node)
        else:
            constants[node.output[0]] = value
    return nodes, constants


def _constant(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array | None:
    """What a node yields from constants alone; None where it is not one of these kinds."""
    attributes = attributes_of(node)
    if node.op_type == "Constant" and attributes:
        (kind, value), *_ = attributes.items()
        return numpy_helper.to_array(value) if kind == "value" else np.asarray(value)
    if node.op_type == "Identity":
        return inputs[0]
    if node.op_type == "Transpose" and inputs[0] is not None:
        return np.transpose(inputs[0], attributes.get("perm"))
    if node.op_type == "Cast" and inputs[0] is not None:
        return inputs[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
    if node.op_type == "Reshape" and inputs[0] is not None and inputs[1] is not None:
        return _reshaped(inputs[0], inputs[1])
    if node.op_type == "Unsqueeze" and inputs[0] is not None:
        axes = np.ravel(np.asarray(inputs[1] if len(inputs) > 1 else attributes["axes"]))
        return np.expand_dims(inputs[0], tuple(int(axis) for axis in axes))
    return None


def _reshaped(array: Array, target: Array) -> Array:
    """`Reshape` of a constant; 0 keeps an axis."""
    sizes = [array.shape[axis] if size == 0 else int(size) for axis, size in enumerate(target)]
    return array.reshape(sizes)
