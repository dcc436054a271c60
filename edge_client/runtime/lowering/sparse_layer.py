"""A layer's products over its kept weights: one index, and its transpose for the way back."""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Walk
from edge_client.runtime.lowering.layer import Layer, LayerKernels
from edge_client.runtime.program import Buffer, Ref, Store


def forward(
    builder: Builder, layer: Layer, source: Buffer, output: Buffer, bias: Ref | None
) -> None:
    """One product."""
    geometry = layer.geometry
    builder.emit(
        "product",
        geometry.rows,
        layer.work(layer.tensor.kept, geometry.rows, geometry.forward),
        walk=geometry.forward,
        output_channel=geometry.outputs,
        row_start=layer.index(Store.ROW_START),
        offset=layer.index(Store.OFFSET),
        values=layer.value,
        bias=bias,
        input=source,
        output=output,
    )


def weight_gradient(
    builder: Builder, layer: Layer, source: Buffer, gradient: Buffer, bias_result: Buffer | None
) -> Buffer:
    """At the kept positions only."""
    geometry = layer.geometry
    result = builder.parameter_gradient(layer.tensor.name)
    builder.emit(
        "weight_gradient",
        geometry.rows,
        layer.work(layer.tensor.kept, geometry.rows, geometry.forward),
        walk=geometry.forward,
        gradient_channel=geometry.outputs,
        accumulate=int(builder.accumulate),
        row_start=layer.index(Store.ROW_START),
        offset=layer.index(Store.OFFSET),
        input=source,
        gradient=gradient,
        result=result,
        bias_result=bias_result,
    )
    return result


def input_gradient(
    builder: Builder, layer: Layer, phase: int, walk: Walk, gradient: Buffer, result: Buffer
) -> None:
    """The product over the transposed index of one phase of the stride."""
    geometry = layer.geometry
    builder.emit(
        "product",
        geometry.channels,
        layer.work(layer.tensor.kept // geometry.phases, geometry.channels, walk),
        walk=walk,
        output_channel=geometry.inputs,
        row_start=layer.index(Store.BACK_START, phase * geometry.channels),
        offset=layer.index(Store.BACK_OFFSET),
        order=layer.index(Store.BACK_ORDER),
        values=layer.value,
        input=gradient,
        output=result,
    )


KERNELS: Final = LayerKernels(
    forward=forward, weight_gradient=weight_gradient, input_gradient=input_gradient
)
