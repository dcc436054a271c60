"""Disk, memory and versions of where a doctor runs."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from fedsparse import __version__
from fedsparse.doctor.row import Row, fail, ok, warn

MIB: Final = 2**20
LEAST_FREE_MIB: Final = 64  # without which no transfer is accepted (transport/partial.py)
LITTLE_FREE_MIB: Final = 512
LITTLE_MEMORY_MIB: Final = 64


def disk_row(folder: Path) -> Row:
    """Room on the disk of a folder, or of the nearest one above that exists."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize // MIB
    value = f"{free} MiB free at {there}"
    fix = f"make room on the file system of {there}"
    if disk.f_files and not disk.f_favail:
        return fail("disk", f"{value}, but no more files can be made", fix)
    if free < LEAST_FREE_MIB:
        return fail("disk", value, fix)
    return warn("disk", value, fix) if free < LITTLE_FREE_MIB else ok("disk", value)


def folder_row(name: str, folder: Path) -> Row:
    """Whether this user can write in a folder; nothing is written."""
    if not folder.exists():
        above = next(one for one in folder.absolute().parents if one.exists())
        if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
            return ok(name, f"{folder}: is made at the first start")
        return fail(name, f"{folder}: cannot be made in {above}", f"sudo chown $USER {above}")
    if not folder.is_dir():
        return fail(name, f"{folder}: not a folder", "move it away, or name another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(
            name,
            f"{folder}: not writable by this user",
            f"run this as the user that the service has, or: sudo chown -R $USER {folder}",
        )
    return ok(name, f"{folder}: writable")


def memory_row(available_bytes: int, source: str) -> Row:
    """What this process has, and what there still is."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
    available = available_bytes // MIB
    value = f"{available} MiB available ({source}); this process has {own} MiB"
    if available < LITTLE_MEMORY_MIB:
        return warn("memory", value, "end other programs; `ps aux --sort -rss` names them")
    return ok("memory", value)


def versions_row(packages: Sequence[str]) -> Row:
    """Of this program and of what it stands on; a package that is missing fails."""
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    own = f"fedsparse {__version__}, Python {platform.python_version()} on {platform.machine()}"
    value = ", ".join([own, _openssl(), *found])
    if missing:
        return fail(
            "versions",
            f"{value}; missing: {', '.join(missing)}",
            f"{sys.executable} -m pip install {' '.join(missing)}",
        )
    return ok("versions", value)


def _openssl() -> str:
    try:
        import ssl
    except ImportError:
        return "Python without ssl"
    return ssl.OPENSSL_VERSION
