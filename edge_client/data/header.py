"""How many samples a file holds, without numpy: the agent asks before a trainer exists."""

from __future__ import annotations

import ast
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Final

from fedsparse.errors import DataError

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER_BYTES: Final = 65_536


def count_samples(path: Path) -> tuple[int, tuple[int, ...], str]:
    """Read the header of `x` in an `.npz` and no sample.

    Returns:
        The number of samples, the shape of one, and the type as numpy writes it (`<f4`).

    Raises:
        DataError: the file is missing, not an `.npz` archive, or without a readable array `x`.
    """
    shape, dtype = _read_header(path)
    if not shape:
        raise DataError(f"{path}: x is a single number: it must be (samples, *input_shape)")
    return shape[0], shape[1:], dtype


def _read_header(path: Path) -> tuple[tuple[int, ...], str]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as entry:
            return _parse(_raw_header(entry))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: [data] path in client.toml names it") from error
    except KeyError as error:
        raise DataError(f"{path}: no array 'x': write it with numpy.savez(x=..., y=...)") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not an .npz archive: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        RuntimeError,
        MemoryError,
    ) as error:
        raise DataError(f"{path}: the header of 'x' is damaged: {error}") from error


def _raw_header(entry: IO[bytes]) -> str:
    """The Python literal at the start of a `.npy` stream (numpy's format 1, 2 or 3)."""
    start = entry.read(8)
    if len(start) < 8 or not start.startswith(MAGIC):
        raise ValueError("it is not a .npy array")
    major = start[6]
    size = struct.unpack("<H", entry.read(2)) if major == 1 else struct.unpack("<I", entry.read(4))
    if size[0] > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {size[0]} bytes")
    return entry.read(size[0]).decode("latin1" if major < 3 else "utf-8")


def _parse(text: str) -> tuple[tuple[int, ...], str]:
    header = ast.literal_eval(text.strip())
    if not isinstance(header, dict):
        raise ValueError("it is not a dictionary")
    shape, dtype = header.get("shape"), header.get("descr")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape {shape!r}")
    if not isinstance(dtype, str):
        raise ValueError(f"type {dtype!r}")
    return shape, dtype
