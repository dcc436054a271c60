"""Linear and convolution: three sparse products over one index and its transpose."""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Geometry, Walk
from edge_client.runtime.program import Buffer, Field, Ref, Store, WeightTensor, Work
from fedsparse.plan import Conv, Linear, Node

# Beside its multiply-adds, what a sparse product spends on every output and on every kept weight.
OUTPUT_TOUCHES: Final = 5
ENTRY_TOUCHES: Final = 16


def weighted(builder: Builder, node: Node, operator: Linear | Conv) -> Buffer:
    """Pad the input where the operator asks for it, then one product."""
    geometry = Geometry.of(operator, builder.plan.shapes[node.inputs[0]])
    weight = f"{node.name}.weight"
    builder.weights.append(
        WeightTensor(
            name=weight,
            geometry=geometry,
            kept=builder.kept[weight],
            prunable=operator.prunable,
            input_gradient=builder.differentiable[node.inputs[0]],
        )
    )
    source = builder.padded(geometry, builder.read(node.inputs[0], saved=True), back=False)
    output = builder.buffer(floats=geometry.rows * geometry.outputs)
    bias = Ref(store=Store.VALUE, tensor=f"{node.name}.bias") if operator.bias else None
    builder.emit(
        "product",
        geometry.rows,
        Work(
            multiply_adds=builder.kept[weight] * geometry.outputs,
            touches=OUTPUT_TOUCHES * geometry.rows * geometry.outputs,
            fixed_touches=ENTRY_TOUCHES * builder.kept[weight],
        ),
        rows=geometry.rows,
        output_channel=geometry.outputs,
        **_steps(geometry.forward, "output"),
        **_index(weight),
        bias=bias,
        values=Ref(store=Store.VALUE, tensor=weight),
        input=source,
        output=output,
    )
    return output


def weighted_backward(
    builder: Builder, node: Node, operator: Linear | Conv, gradient: Buffer
) -> None:
    """Weight gradient, bias gradient, input gradient, then the update."""
    geometry = Geometry.of(operator, builder.plan.shapes[node.inputs[0]])
    weight, bias = f"{node.name}.weight", f"{node.name}.bias"
    weight_gradient = builder.parameter_gradient(weight)
    bias_gradient = builder.parameter_gradient(bias) if operator.bias else None
    _weight_gradient(builder, node, geometry, gradient, weight_gradient, bias_gradient)
    if bias_gradient:
        builder.update(bias, bias_gradient)
    if builder.differentiable[node.inputs[0]]:
        _input_gradient(builder, node, geometry, gradient)
    builder.update(weight, weight_gradient)


def _weight_gradient(
    builder: Builder,
    node: Node,
    geometry: Geometry,
    gradient: Buffer,
    result: Buffer,
    bias_result: Buffer | None,
) -> None:
    """At the kept positions only; the input is padded again rather than kept padded."""
    weight = f"{node.name}.weight"
    source = builder.padded(geometry, builder.values[node.inputs[0]], back=False)
    builder.emit(
        "weight_gradient",
        geometry.rows,
        Work(
            multiply_adds=builder.kept[weight] * geometry.outputs,
            touches=OUTPUT_TOUCHES * geometry.rows * geometry.outputs,
            fixed_touches=ENTRY_TOUCHES * builder.kept[weight],
        ),
        rows=geometry.rows,
        gradient_channel=geometry.outputs,
        accumulate=int(builder.accumulate),
        **_steps(geometry.forward, "gradient"),
        **_index(weight),
        input=source,
        gradient=gradient,
        result=result,
        bias_result=bias_result,
    )


def _input_gradient(builder: Builder, node: Node, geometry: Geometry, gradient: Buffer) -> None:
    """The product over the transposed index, once for each phase of the stride."""
    weight = f"{node.name}.weight"
    padded = builder.padded(geometry, gradient, back=True)
    result = builder.buffer(floats=geometry.channels * geometry.inputs)
    total = builder.kept[weight] * geometry.outputs
    for phase, walk in geometry.backward():
        builder.emit(
            "product",
            geometry.channels,
            Work(
                multiply_adds=total // geometry.phases,
                touches=OUTPUT_TOUCHES * geometry.channels * walk.rows * walk.columns * walk.run,
                fixed_touches=ENTRY_TOUCHES * builder.kept[weight] // geometry.phases,
            ),
            rows=geometry.channels,
            output_channel=geometry.inputs,
            output_start=walk.output_start,
            **_steps(walk, "output"),
            row_start=Ref(store=Store.BACK_START, tensor=weight, shift=phase * geometry.channels),
            offset=Ref(store=Store.BACK_OFFSET, tensor=weight),
            order=Ref(store=Store.BACK_ORDER, tensor=weight),
            values=Ref(store=Store.VALUE, tensor=weight),
            input=padded,
            output=result,
        )
    builder.deliver(node.inputs[0], result)


def _index(weight: str) -> dict[str, Field]:
    return {
        "row_start": Ref(store=Store.ROW_START, tensor=weight),
        "offset": Ref(store=Store.OFFSET, tensor=weight),
    }


def _steps(walk: Walk, other: str) -> dict[str, Field]:
    """The walk over the input and over the `other` operand."""
    return {
        "grid_rows": walk.rows,
        "grid_columns": walk.columns,
        "run": walk.run,
        "input_row": walk.input_row,
        "input_column": walk.input_column,
        f"{other}_row": walk.output_row,
        f"{other}_column": walk.output_column,
    }
