"""A layer's products over all its weights, dropped ones as zeros: where that is faster.

Kept values stay the only copy that lasts: they are written into a dense tensor for each pass, and
its gradient is read at their positions.
"""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Walk
from edge_client.runtime.lowering.layer import Layer, LayerKernels
from edge_client.runtime.program import Buffer, Field, Ref, Store, Work

SCRATCH: Final = "dense"


def forward(
    builder: Builder, layer: Layer, source: Buffer, output: Buffer, bias: Ref | None
) -> None:
    """One product."""
    geometry = layer.geometry
    builder.emit(
        "dense_product",
        geometry.rows,
        layer.work(layer.tensor.size, geometry.rows, geometry.forward),
        walk=geometry.forward,
        output_channel=geometry.outputs,
        group_rows=geometry.group_rows,
        group_values=geometry.group_rows * geometry.row_entries,
        group_input=geometry.group_channels * geometry.padded,
        row_values=geometry.row_entries,
        row_start=layer.index(Store.ROW_START),
        offset=layer.index(Store.OFFSET),
        values=_values(builder, layer),
        bias=bias,
        input=source,
        output=output,
    )


def weight_gradient(
    builder: Builder, layer: Layer, source: Buffer, gradient: Buffer, bias_result: Buffer | None
) -> Buffer:
    """Of all weights; what is not kept is dropped at once."""
    geometry, tensor = layer.geometry, layer.tensor
    result = builder.parameter_gradient(tensor.name)
    dense = result if tensor.is_full else builder.buffer(fixed_floats=tensor.size)
    builder.emit(
        "dense_weight_gradient",
        geometry.rows,
        layer.work(tensor.size, geometry.rows, geometry.forward),
        walk=geometry.forward,
        gradient_channel=geometry.outputs,
        accumulate=int(builder.accumulate and tensor.is_full),
        bias_accumulate=int(builder.accumulate),
        group_rows=geometry.group_rows,
        group_input=geometry.group_channels * geometry.padded,
        row_start=layer.index(Store.ROW_START),
        offset=layer.index(Store.OFFSET),
        input=source,
        gradient=gradient,
        result=dense,
        bias_result=bias_result,
    )
    if not tensor.is_full:
        builder.emit(
            "gather",
            tensor.kept,
            Work(fixed_touches=3 * tensor.kept),
            count=tensor.kept,
            size=tensor.size,
            accumulate=int(builder.accumulate),
            position=layer.index(Store.POSITION),
            input=dense,
            output=result,
        )
    return result


def input_gradient(
    builder: Builder, layer: Layer, phase: int, walk: Walk, gradient: Buffer, result: Buffer
) -> None:
    """The product over the transposed tensor, for one phase of the stride."""
    geometry = layer.geometry
    builder.emit(
        "dense_product",
        geometry.channels,
        layer.work(layer.tensor.size // geometry.phases, geometry.channels, walk),
        walk=walk,
        output_channel=geometry.inputs,
        group_rows=geometry.group_channels,
        group_values=geometry.group_rows * geometry.row_entries,
        group_input=geometry.group_rows * geometry.gradient_padded,
        row_values=geometry.window,
        row_start=layer.index(Store.BACK_START, phase),
        offset=layer.index(Store.BACK_OFFSET),
        order=layer.index(Store.BACK_ORDER),
        values=_values(builder, layer),
        input=gradient,
        output=result,
    )


def _values(builder: Builder, layer: Layer) -> Field:
    """The dense tensor: the values themselves where all are kept, else a scratch copy."""
    tensor = layer.tensor
    if tensor.is_full:
        return layer.value
    if (layer.node, SCRATCH) in builder.extras:
        return builder.extras[layer.node, SCRATCH]
    scratch = builder.extras[layer.node, SCRATCH] = builder.buffer(fixed_floats=tensor.size)
    builder.emit(
        "scatter",
        1,
        Work(fixed_touches=tensor.size + 2 * tensor.kept),
        count=tensor.kept,
        size=tensor.size,
        position=layer.index(Store.POSITION),
        input=layer.value,
        output=scratch,
    )
    return scratch


KERNELS: Final = LayerKernels(
    forward=forward, weight_gradient=weight_gradient, input_gradient=input_gradient
)
