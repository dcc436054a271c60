"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_durably(path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Replace `path` by `data`, on the disk when this returns; its folder is created.

    Args:
        path: where.
        data: what.
        mode: who may read and write the file, less what the umask takes.

    Raises:
        OSError: the disk is full or not writable, or `path` is a device, a folder or the like; what
            was there then still is.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # left by a process of this number; its mode is not ours
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_durably(source: Path, path: Path) -> None:
    """Replace `path` by the file `source` of the same disk, with all its bytes on it then.

    Raises:
        OSError: the disk does not work; both are what they were.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    source.replace(path)
    sync_folder(path.parent)


def write_secret(path: Path, data: bytes) -> None:
    """Replace `path` as `write_durably` does, readable by its owner only from the first byte.

    A folder that is created for it is its owner's alone too.

    Raises:
        OSError: as `write_durably`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, data, mode=0o600)


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
