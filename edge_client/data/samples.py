"""A device's samples: loaded, checked, split into training and hold-out, cut into batches."""

from __future__ import annotations

import random
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_client.data.holdout import holdout_sizes
from fedsparse.errors import DataError
from fedsparse.plan import Plan
from fedsparse.targets import read_targets
from fedsparse.types import Float32Array, IntArray

Batch = tuple[Float32Array, IntArray | Float32Array]  # samples and their targets
SAMPLE_TYPES: Final = ("float16", "float32", "float64", "uint8")
# What numpy, zipfile and zlib raise over damaged bytes.
UNREADABLE: Final = (
    ValueError, TypeError, KeyError, SyntaxError, EOFError, RuntimeError, MemoryError,
    OverflowError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """A device's data: all of it, and which of it is trained on and which is held out.

    Attributes:
        x: `(samples, *input_shape)`.
        y: their targets, as the plan's loss wants them.
        trained, held_out: indices.
    """

    x: Float32Array
    y: IntArray | Float32Array
    trained: IntArray
    held_out: IntArray


def load_samples(path: Path, plan: Plan) -> tuple[Float32Array, IntArray | Float32Array]:
    """Read `x` `(samples, *input_shape)` and the targets `y` from an `.npz` file.

    Args:
        path: the file; float16, float32, float64 and uint8 samples become float32, unscaled.
        plan: whose input and loss they are for (fedsparse/targets.py).

    Returns:
        `x` float32 `(samples, *input_shape)`, C-contiguous; `y` int64 `(samples,)` for
        cross-entropy, else float32 `(samples, outputs)`.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    try:
        arrays = _read(path)
        x, y = arrays["x"], arrays["y"]
        _check_shape(x, plan.input_shape)
        return _as_float32(x), read_targets(y, len(x), plan)
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
    y: IntArray | Float32Array,
    indices: IntArray,
    *,
    batch_size: int,
    rng: random.Random,
    least: int = 1,
) -> Iterator[Batch]:
    """One epoch over the samples at `indices`: each once, in a new order, the short batch last.

    Args:
        x: all samples.
        y: their targets.
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


def _check_shape(x: npt.NDArray[Any], input_shape: tuple[int, ...]) -> None:
    if x.ndim == 0 or x.shape[1:] != input_shape:
        raise DataError(
            f"x has the shape {x.shape}, the model needs (samples, "
            f"{', '.join(map(str, input_shape))})"
        )
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
