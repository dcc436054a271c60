"""A store that can be full: a small file system of its own, mounted where the store is."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.emulation.errors import EmulationError

MIB: Final = 2**20
KIB: Final = 2**10  # in a MiB
MOUNTS: Final = Path("/proc/self/mounts")
FILLER: Final = "filler-"
LARGE: Final = bytes(64 * 1024)
SMALL: Final = bytes(1024)
PATIENCE_S: Final = 30.0
PATHS: Final = "/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A mounted file system.

    Attributes:
        folder: where it is mounted.
        mechanism: what it is, for the report.
    """

    folder: Path
    mechanism: str

    def fill(self) -> int:
        """Take all that is left, also what was given back since; returns how many bytes."""
        taken = _append(self.folder / f"{FILLER}0", LARGE)
        for number in itertools.count(1):  # the last blocks, which are too few for a large piece
            more = _append(self.folder / f"{FILLER}{number}", SMALL)
            taken += more
            if not more:
                break
        return taken

    def make_room(self) -> None:
        """Give back what `fill` took."""
        for path in self.folder.glob(f"{FILLER}*"):
            path.unlink()

    def close(self) -> None:
        """Unmount it; what lies in it stays in the image beside it."""
        unmount_below(self.folder)


def mount_small_disk(folder: Path, size_mib: float) -> SmallDisk:
    """Make a file system of a size and mount it on `folder`.

    Raises:
        EmulationError: this user, or this system, cannot; the message says why.
    """
    if os.geteuid() != 0:
        raise EmulationError("only root may mount a small file system")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _mount_image(folder, size_mib)
    except EmulationError as refused:  # a system without loop devices, or without mkfs
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mib * KIB:.0f}k", "tmpfs", str(folder))
        held = f"tmpfs of {size_mib:g} MiB, which takes memory of the board, mounted over the store"
        return SmallDisk(folder=folder, mechanism=f"{held} ({refused})")


def _mount_image(folder: Path, size_mib: float) -> SmallDisk:
    make = shutil.which("mkfs.ext2") or shutil.which("mkfs.ext2", path=PATHS)
    if make is None:
        raise EmulationError("there is no program 'mkfs.ext2': install e2fsprogs")
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(int(size_mib * MIB))
    _run(make, "-q", "-F", "-m", "0", str(image))
    _run("mount", "-o", "loop,nosuid,nodev", str(image), str(folder))
    held = f"ext2 in a file of {size_mib:g} MiB, mounted over the store"
    return SmallDisk(folder=folder, mechanism=held)


def unmount_below(folder: Path) -> None:
    """Unmount what is mounted on a folder or below it, also what a killed run left."""
    for point in reversed(_mounted_below(folder.resolve())):
        with suppress(EmulationError):
            _run("umount", "--lazy", str(point))


def _append(path: Path, block: bytes) -> int:
    """Append to a file until the disk is full; returns how many bytes that took."""
    taken = 0
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            taken += file.write(block)
    return taken


def _mounted_below(folder: Path) -> list[Path]:
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    points = [Path(line.split()[1].replace("\\040", " ")) for line in lines]
    return [point for point in points if point == folder or folder in point.parents]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (our own words)
            command, check=False, capture_output=True, text=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmulationError(f"{command[0]}: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or "it failed"
        raise EmulationError(f"{Path(command[0]).name}: {said.partition(' dmesg')[0]}")
