"""Linear and convolution: padding, products, updates; the kernels are sparse or dense."""

from __future__ import annotations

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Geometry
from edge_client.runtime.lowering import dense_layer, sparse_layer
from edge_client.runtime.lowering.layer import Layer, LayerKernels
from edge_client.runtime.program import Buffer, Ref, Store, WeightTensor
from fedsparse.plan import Conv, Linear, Node


def weighted(builder: Builder, node: Node, operator: Linear | Conv) -> Buffer:
    """Pad the input where the operator asks for it, then one product."""
    layer = _layer(builder, node, operator)
    builder.weights.append(layer.tensor)
    builder.read(node.inputs[0], saved=True)
    source = builder.padded(layer.geometry, node.inputs[0])
    output = builder.buffer(floats=layer.geometry.rows * layer.geometry.outputs)
    bias = Ref(store=Store.VALUE, tensor=f"{node.name}.bias") if operator.bias else None
    _kernels(layer).forward(builder, layer, source, output, bias)
    return output


def weighted_backward(
    builder: Builder, node: Node, operator: Linear | Conv, gradient: Buffer
) -> None:
    """Gradients of weight and bias, at the kept positions only, then of the input; updates.

    The input is padded again rather than kept padded.
    """
    layer = _layer(builder, node, operator)
    kernels = _kernels(layer)
    bias = f"{node.name}.bias"
    bias_gradient = builder.parameter_gradient(bias) if operator.bias else None
    source = builder.padded(layer.geometry, node.inputs[0])
    weight_gradient = kernels.weight_gradient(builder, layer, source, gradient, bias_gradient)
    if bias_gradient:
        builder.update(bias, bias_gradient)
    if layer.tensor.input_gradient:
        padded = builder.padded_gradient(layer.geometry, gradient)
        result = builder.buffer(floats=layer.geometry.channels * layer.geometry.inputs)
        for phase, walk in layer.geometry.backward():
            kernels.input_gradient(builder, layer, phase, walk, padded, result)
        builder.deliver(node.inputs[0], result)
    builder.update(layer.tensor.name, weight_gradient)


def _layer(builder: Builder, node: Node, operator: Linear | Conv) -> Layer:
    name = f"{node.name}.weight"
    tensor = WeightTensor(
        name=name,
        geometry=Geometry.of(operator, builder.plan.shapes[node.inputs[0]]),
        kept=builder.kept[name],
        prunable=operator.prunable,
        input_gradient=builder.differentiable[node.inputs[0]],
        dense=name in builder.dense_layers,
    )
    return Layer(node=node.name, tensor=tensor)


def _kernels(layer: Layer) -> LayerKernels:
    return dense_layer.KERNELS if layer.tensor.dense else sparse_layer.KERNELS
