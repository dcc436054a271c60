"""The parameters of a model at its kept positions, and where kernels find them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_client.runtime.geometry import Geometry
from edge_client.runtime.native.library import Library
from edge_client.runtime.native.structures import Index
from edge_client.runtime.program import FLOAT_BYTES, Program, Ref, Store, WeightTensor
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Weights

Int32Array = npt.NDArray[np.int32]

BACKWARD: Final = (Store.BACK_START, Store.BACK_OFFSET, Store.BACK_ORDER)


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
    arrays = {store: np.empty(size, np.int32) for store, size in weight.index_sizes.items()}
    position = arrays.get(Store.POSITION)
    if position is not None and mask is not None:
        position[:] = np.flatnonzero(mask)
    if not weight.dense:
        _fill(
            arrays, library, geometry, mask,
            rows=geometry.rows, channels=geometry.group_channels, group_rows=geometry.group_rows,
        )  # fmt: skip
        return arrays
    # What all rows of a group share forward, and all channels of a group backward.
    forward, backward = (
        {store: array for store, array in arrays.items() if (store in BACKWARD) is back}
        for back in (False, True)
    )
    _fill(forward, library, geometry, rows=1, channels=geometry.group_channels, group_rows=1)
    if backward:
        rows = geometry.group_rows
        unused = {store: np.empty(size, np.int32) for store, size in (
            (Store.ROW_START, rows + 1), (Store.OFFSET, rows * geometry.window))}  # fmt: skip
        _fill(
            backward | unused, library, geometry,
            rows=rows, channels=1, group_rows=rows,
            order_skip=geometry.row_entries - geometry.window,
        )  # fmt: skip
    return arrays


def _fill(
    arrays: Mapping[Store, Int32Array],
    library: Library,
    geometry: Geometry,
    mask: BoolArray | None = None,
    **sizes: int,
) -> None:
    """Run the native function over a geometry, or over a part of it."""
    v, h = geometry.vertical, geometry.horizontal
    arguments = Index(
        kernel_height=v.kernel, kernel_width=h.kernel,
        stride_height=v.stride, stride_width=h.stride,
        dilation_height=v.dilation, dilation_width=h.dilation, top=v.before, left=h.before,
        planes_down=v.planes, planes_across=h.planes, plane_height=v.plane, plane_width=h.plane,
        gradient_height=v.gradient_padded, gradient_width=h.gradient_padded,
        gradient_top=v.gradient_pads[0], gradient_left=h.gradient_pads[0],
        mask=None if mask is None else mask.ctypes.data,
        **{store.value: array.ctypes.data for store, array in arrays.items()
           if store is not Store.POSITION},
        **sizes,
    )  # fmt: skip
    library.index(ctypes.addressof(arguments))


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
