"""Weights of a plan: flat vectors, tensors by name, and `.npz` files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.models.archive import read_arrays
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan, Tensor
from fedsparse.types import BoolArray, Float32Array, Weights


def tensors_by_name(
    plan: Plan, weights: Weights, mask: BoolArray | None = None
) -> dict[str, Float32Array]:
    """Every tensor of the plan, in its dense shape.

    Args:
        plan: whose order the vectors follow.
        weights: prunable `(num_prunable,)`, dense `(num_dense,)`; not changed.
        mask: `(num_prunable,)`, True = kept; dropped weights become zeros. None keeps all.

    Raises:
        ValueError: a vector of the wrong length.
    """
    kept = mask is None or mask.shape == weights.prunable.shape
    if not kept or (weights.prunable.size, weights.dense.size) != (
        plan.num_prunable,
        plan.num_dense,
    ):
        raise ValueError(
            f"{weights.prunable.size} prunable and {weights.dense.size} dense values, mask "
            f"{None if mask is None else mask.shape}; the plan has {plan.num_prunable} and "
            f"{plan.num_dense}"
        )
    prunable = weights.prunable if mask is None else np.where(mask, weights.prunable, np.float32(0))
    return _split(prunable, plan.prunable) | _split(weights.dense, plan.dense)


def from_tensors(plan: Plan, tensors: Mapping[str, Float32Array]) -> Weights:
    """The flat vectors of a plan's tensors; the inverse of `tensors_by_name`."""
    return Weights(prunable=_join(tensors, plan.prunable), dense=_join(tensors, plan.dense))


def save_weights(path: Path, tensors: Mapping[str, Float32Array]) -> None:
    """Write tensors by name as `.npz`; the file appears whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: tensors[name] for name in tensors})
    try:
        write_durably(path, buffer.getbuffer())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def load_weights(path: Path, plan: Plan) -> Weights:
    """Read the weights of a plan; arrays that the plan has no tensor for are ignored.

    Raises:
        ConfigError: the file cannot be read; a tensor is missing, of the wrong shape or not finite.
    """
    arrays, names = read_arrays(path, [tensor.name for tensor in plan.tensors], ConfigError)
    for tensor in plan.tensors:
        _check(path, tensor, arrays.get(tensor.name), names)
    return from_tensors(plan, arrays)


def _check(
    path: Path, tensor: Tensor, values: npt.NDArray[Any] | None, names: Sequence[str]
) -> None:
    if values is None:
        raise ConfigError(
            f"{path}: the tensor '{tensor.name}' {tensor.shape} is missing; it has "
            f"{', '.join(names) or 'none'}"
        )
    if values.shape != tensor.shape:
        raise ConfigError(
            f"{path}: the tensor '{tensor.name}' has shape {values.shape}, the plan {tensor.shape}"
        )
    if not (np.issubdtype(values.dtype, np.floating) and np.isfinite(values).all()):
        raise ConfigError(
            f"{path}: the tensor '{tensor.name}' ({values.dtype}) must be finite floating-point "
            "numbers"
        )


def _split(vector: Float32Array, group: Iterable[Tensor]) -> dict[str, Float32Array]:
    tensors, start = {}, 0
    for tensor in group:
        part = vector[start : start + tensor.size]
        tensors[tensor.name] = part.astype(np.float32).reshape(tensor.shape)
        start += tensor.size
    return tensors


def _join(tensors: Mapping[str, Float32Array], group: Iterable[Tensor]) -> Float32Array:
    parts = [np.asarray(tensors[tensor.name], np.float32).ravel() for tensor in group]
    return np.concatenate([np.empty(0, np.float32), *parts])
