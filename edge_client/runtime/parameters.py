"""The parameters of a model at its kept positions, and where kernels find them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edge_client.runtime.native.library import Library
from edge_client.runtime.native.structures import Index
from edge_client.runtime.program import FLOAT_BYTES, Program, Ref, Store, WeightTensor
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Weights

Int32Array = npt.NDArray[np.int32]


class Parameters:
    """Values, momentum and indices under one mask.

    Args:
        plan: the model.
        program: its lowering under the mask's counts.
        mask: `(num_prunable,)`.
        weights: kept values `(nnz,)` and dense tensors `(num_dense,)`; copied.
        with_velocity: whether SGD has momentum.
        library: builds the indices.
    """

    def __init__(
        self,
        plan: Plan,
        program: Program,
        mask: BoolArray,
        weights: Weights,
        *,
        with_velocity: bool,
        library: Library,
    ) -> None:
        self.kept = np.array(weights.prunable, dtype=np.float32)
        self.dense = np.array(weights.dense, dtype=np.float32)
        size = (self.kept.size, self.dense.size) if with_velocity else (0, 0)
        self.kept_velocity = np.zeros(size[0], np.float32)
        self.dense_velocity = np.zeros(size[1], np.float32)
        self._starts = _starts(plan, {weight.name: weight.kept for weight in program.weights})
        self._prunable = {tensor.name for tensor in plan.prunable}
        self._indices: dict[tuple[Store, str], Int32Array] = {}
        masks = _masks(plan, mask)
        for weight in program.weights:
            built = build_index(weight, masks.get(weight.name), library)
            self._indices.update({(store, weight.name): array for store, array in built.items()})

    def address(self, ref: Ref) -> int:
        """Where the memory begins that `ref` names."""
        if ref.store in (Store.VALUE, Store.VELOCITY):
            prunable = ref.tensor in self._prunable
            values = self.kept if prunable else self.dense
            if ref.store is Store.VELOCITY:
                values = self.kept_velocity if prunable else self.dense_velocity
            return values.ctypes.data + FLOAT_BYTES * self._starts[ref.tensor]
        return self._indices[ref.store, ref.tensor].ctypes.data + FLOAT_BYTES * ref.shift


def build_index(
    weight: WeightTensor, mask: BoolArray | None, library: Library
) -> dict[Store, Int32Array]:
    """The forward index, and the backward one where the layer hands a gradient on.

    Args:
        weight: the tensor.
        mask: contiguous, `(size,)`; None keeps everything.
        library: fills the arrays.
    """
    geometry = weight.geometry
    v, h = geometry.vertical, geometry.horizontal
    sizes = {Store.ROW_START: geometry.rows + 1, Store.OFFSET: weight.kept}
    if weight.input_gradient:
        sizes[Store.BACK_START] = weight.back_rows + 1
        sizes[Store.BACK_OFFSET] = sizes[Store.BACK_ORDER] = weight.kept
    arrays = {store: np.empty(size, np.int32) for store, size in sizes.items()}
    arguments = Index(
        rows=geometry.rows, channels=geometry.channels,
        kernel_height=v.kernel, kernel_width=h.kernel,
        input_height=v.padded, input_width=h.padded,
        stride_height=v.stride, stride_width=h.stride, top=v.before, left=h.before,
        gradient_height=v.gradient_padded, gradient_width=h.gradient_padded,
        gradient_top=v.gradient_pads[0], gradient_left=h.gradient_pads[0],
        mask=None if mask is None else mask.ctypes.data,
        **{store.value: array.ctypes.data for store, array in arrays.items()},
    )  # fmt: skip
    library.index(ctypes.addressof(arguments))
    return arrays


def _starts(plan: Plan, kept: Mapping[str, int]) -> dict[str, int]:
    """Where each tensor begins in its flat vector."""
    starts: dict[str, int] = {}
    for tensors in (plan.prunable, plan.dense):
        start = 0
        for tensor in tensors:
            starts[tensor.name] = start
            start += kept.get(tensor.name, tensor.size)
    return starts


def _masks(plan: Plan, mask: BoolArray) -> dict[str, BoolArray]:
    """The slice of each prunable tensor."""
    masks, start = {}, 0
    for tensor in plan.prunable:
        masks[tensor.name] = mask[start : start + tensor.size]
        start += tensor.size
    return masks
