"""One control group: made, read, written, and taken away with all that runs in it."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.members import PAUSE_S, end_all
from edge_client.emulation.names import is_left_over

PROCESSES: Final = "cgroup.procs"
LEFT_OVERS: Final = "fedsparse-*"
TRIAL: Final = ("/bin/sh", "-c", 'echo $$ > "$0"')
PATIENCE_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A control group of ours.

    Attributes:
        version: 1 or 2.
        folder: it.
    """

    version: int
    folder: Path

    @property
    def processes(self) -> Path:
        """The file that a process joins by."""
        return self.folder / PROCESSES

    def write(self, name: str, value: object) -> None:
        """Set one of its files.

        Raises:
            EmulationError: the group has gone.
            OSError: it has no such file, or the kernel refuses the value.
        """
        if not self.folder.is_dir():
            raise self.gone()
        with (self.folder / name).open("r+", encoding="ascii") as file:
            file.write(str(value))

    def text(self, name: str) -> str:
        """One of its files; empty where it has none such, or has gone."""
        try:
            return (self.folder / name).read_text(encoding="ascii")
        except OSError:
            return ""

    def number(self, name: str, key: str | None = None) -> int | None:
        """A file's number, or that behind `key` in one of lines; None where there is none."""
        for line in self.text(name).splitlines():
            words = line.split()
            if words and words[-1].isdigit() and words[:-1] == ([key] if key else []):
                return int(words[-1])
        return None

    def members(self) -> set[int]:
        """The processes in it."""
        return {int(pid) for pid in self.text(PROCESSES).split()}

    def admits(self) -> str | None:
        """Whether a process may join, by having one do so: None, or why not."""
        try:
            done = subprocess.run(  # noqa: S603 (our own words)
                [*TRIAL, str(self.processes)], check=False, capture_output=True, text=True
            )
        except OSError as error:
            return str(error)
        return (done.stderr.strip() or "no process may join") if done.returncode else None

    def remove(self) -> None:
        """Kill what runs in it, and take it away; one that has gone is no error."""
        if not self.folder.is_dir():
            return
        end_all(self.members)
        deadline = time.monotonic() + PATIENCE_S
        while self.folder.is_dir():
            with suppress(OSError):
                self.folder.rmdir()
                return
            if time.monotonic() > deadline:
                return  # the next start tries again: the name tells that its maker is dead
            time.sleep(PAUSE_S)

    def gone(self) -> EmulationError:
        """What to say when it is not there any more."""
        return EmulationError(
            f"the control group {self.folder} has gone: something else on this machine removed it, "
            "and nothing limits the board any more; start again"
        )


def make_group(parent: Path, name: str, version: int) -> Group | str:
    """A new group that processes may join, or why there is none.

    What dead makers left beside it is taken away first.
    """
    remove_left_overs(parent, version)
    group = Group(version=version, folder=parent / name)
    try:
        group.folder.mkdir(exist_ok=True)
    except OSError as error:
        return f"{parent}: {error.strerror}"
    refused = "no control groups are mounted there"
    if group.processes.exists() and (refused := group.admits() or "") == "":
        return group
    with suppress(OSError):
        group.folder.rmdir()
    return f"{parent}: {refused}"


def remove_left_overs(parent: Path, version: int) -> None:
    """Take away the groups of makers that are dead, with what runs in them."""
    for folder in parent.glob(LEFT_OVERS):
        if is_left_over(folder.name):
            Group(version=version, folder=folder).remove()
