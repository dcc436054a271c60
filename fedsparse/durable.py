"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, on the disk when this returns; its folder is created.

    Raises:
        OSError: the disk is full or not writable, or `path` is a device, a folder or the like; what
            was there then still is.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put names that were made, changed or removed in a folder on the disk."""
    sync_file(folder)


def sync_file(path: Path) -> None:
    """Put what was written into a file by anybody on the disk.

    Raises:
        OSError: the disk is full or at fault.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
