"""Arrays from an `.npz` file of a user, without pickle and without leaving the file open."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsparse.errors import FedSparseError


def read_arrays(
    path: Path, wanted: Collection[str], error: type[FedSparseError]
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """The wanted arrays that the file has, and the names of all that it has.

    Args:
        path: an `.npz` file.
        wanted: names of arrays to read.
        error: what to raise, with a message that names the file.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise error(f"{path}: one array; expected an .npz file of arrays by name")
            with archive:
                return {name: archive[name] for name in wanted if name in archive}, archive.files
    except FileNotFoundError as reason:
        raise error(f"{path}: no such file") from reason
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as reason:
        raise error(f"{path}: not a readable .npz file: {reason}") from reason
