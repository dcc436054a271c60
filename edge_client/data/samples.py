"""A device's samples: loaded, checked, split into training and hold-out, cut into batches."""

from __future__ import annotations

import random
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_client.data.holdout import holdout_sizes
from fedsparse.errors import DataError
from fedsparse.types import Float32Array, IntArray

SAMPLE_TYPES: Final = ("float16", "float32", "float64", "uint8")
# What numpy, zipfile and zlib raise over damaged bytes.
UNREADABLE: Final = (
    ValueError, TypeError, KeyError, SyntaxError, EOFError, RuntimeError, MemoryError,
    OverflowError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_samples(
    path: Path, input_shape: tuple[int, ...], classes: int
) -> tuple[Float32Array, npt.NDArray[np.int64]]:
    """Read `x` `(samples, *input_shape)` and `y` `(samples,)` from an `.npz` file.

    Args:
        path: the file; float16, float32, float64 and uint8 samples become float32, unscaled.
        input_shape: of one sample, as the plan has it.
        classes: of the plan; labels are 0 to `classes - 1`.

    Returns:
        `x` float32 `(samples, *input_shape)`, C-contiguous, and `y` int64 `(samples,)`.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    try:
        arrays = _read(path)
        x, y = arrays["x"], arrays["y"]
        _check_shapes(x, y, input_shape)
        return _as_float32(x), _as_labels(y, classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def split_holdout(num_samples: int, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Choose the samples to train on and those held out, the same ones for the same seed.

    Returns:
        Sorted indices of both; of `holdout_sizes` each.

    Raises:
        DataError: there is no sample at all.
    """
    trained, _ = holdout_sizes(num_samples, share)
    order = list(range(num_samples))
    random.Random(seed).shuffle(order)  # noqa: S311 (a draw, not a secret)
    return np.sort(order[:trained]), np.sort(order[trained:]).astype(np.intp)


def batches(
    x: Float32Array,
    y: IntArray,
    indices: IntArray,
    *,
    batch_size: int,
    rng: random.Random,
    least: int = 1,
) -> Iterator[tuple[Float32Array, IntArray]]:
    """One epoch over the samples at `indices`: each once, in a new order, the short batch last.

    Args:
        x: all samples.
        y: their labels.
        indices: which of them; not changed.
        batch_size: samples of every batch but the last.
        rng: draws the order.
        least: a last batch of fewer is left out; 2 suits a model with batch normalisation, which
            has no variance for a lone sample.
    """
    # Python's generator: importing numpy's costs a short-lived process 2 MB and 30 ms.
    order = indices.tolist()
    rng.shuffle(order)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        if len(chosen) >= least:
            yield x[chosen], y[chosen]


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError("one array, not an .npz archive: use numpy.savez(x=..., y=...)")
            for key in ("x", "y"):
                if key not in archive.files:
                    found = ", ".join(archive.files) or "none"
                    raise DataError(f"no array '{key}' (arrays found: {found})")
            return {key: archive[key] for key in ("x", "y")}
    except FileNotFoundError as error:
        raise DataError("no such file: [data] path in client.toml names it") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"not a readable .npz archive of plain arrays: {error}") from error


def _check_shapes(x: npt.NDArray[Any], y: npt.NDArray[Any], input_shape: tuple[int, ...]) -> None:
    if x.ndim == 0 or x.shape[1:] != input_shape:
        raise DataError(
            f"x has the shape {x.shape}, the model needs (samples, "
            f"{', '.join(map(str, input_shape))})"
        )
    if y.shape != (len(x),):
        raise DataError(f"{len(x)} samples in x but y has the shape {y.shape}, not ({len(x)},)")
    if len(x) == 0:
        raise DataError("no samples: x is empty")


def _as_float32(x: npt.NDArray[Any]) -> Float32Array:
    if x.dtype.name not in SAMPLE_TYPES:
        raise DataError(f"x is {x.dtype.name}; it must be one of {', '.join(SAMPLE_TYPES)}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is refused below
        samples = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite([samples.min(), samples.max()]).all():  # needs no array of the same size
        bad = ~np.isfinite(samples).reshape(len(samples), -1)
        first = int(np.argmax(bad.any(axis=1)))
        raise DataError(
            f"x holds {int(bad.sum())} values that are NaN, infinite or beyond float32, "
            f"the first in sample {first}"
        )
    return samples


def _as_labels(y: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    if y.dtype.kind not in "iu":
        raise DataError(f"y is {y.dtype.name}; labels must be integers")
    outside = (y < 0) | (y >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"label {y[first]} of sample {first} is out of range: the model has {classes} "
            f"classes, 0 to {classes - 1} ({int(outside.sum())} such labels)"
        )
    return y.astype(np.int64)
