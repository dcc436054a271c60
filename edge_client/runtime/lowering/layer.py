"""What the sparse and the dense kernels of a weighted layer have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Geometry, Walk
from edge_client.runtime.program import Buffer, Ref, Store, WeightTensor, Work

# Beside its multiply-adds, what a product spends on every output and on every entry of its index.
OUTPUT_TOUCHES: Final = 5
ENTRY_TOUCHES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A node with weights."""

    node: str
    tensor: WeightTensor

    @property
    def geometry(self) -> Geometry:
        """How its kernels walk."""
        return self.tensor.geometry

    def index(self, store: Store, shift: int = 0) -> Ref:
        """An array of its index."""
        return Ref(store=store, tensor=self.tensor.name, shift=shift)

    @property
    def value(self) -> Ref:
        """Its kept values."""
        return Ref(store=Store.VALUE, tensor=self.tensor.name)

    def work(self, entries: int, rows: int, walk: Walk) -> Work:
        """Of a product of `entries` weights along a walk."""
        positions = walk.lines * walk.run
        return Work(
            multiply_adds=entries * positions,
            touches=OUTPUT_TOUCHES * rows * positions,
            fixed_touches=ENTRY_TOUCHES * entries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKernels:
    """The three products of a layer.

    Attributes:
        forward: (builder, layer, padded input, output, bias).
        weight_gradient: (builder, layer, padded input, gradient, where the bias's gradient goes)
            -> the gradient of the kept values.
        input_gradient: (builder, layer, phase, walk, padded gradient, result).
    """

    forward: Callable[[Builder, Layer, Buffer, Buffer, Ref | None], None]
    weight_gradient: Callable[[Builder, Layer, Buffer, Buffer, Buffer | None], Buffer]
    input_gradient: Callable[[Builder, Layer, int, Walk, Buffer, Buffer], None]
