"""Which programs run on this machine, by their exact names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
COMM_LENGTH: Final = 15  # the kernel keeps no more of a name


def running(names: Iterable[str], root: Path = ROOT) -> tuple[str, ...]:
    """Those of `names` that a process has now, in their order.

    A name is what `ps -o comm` shows; one that is longer than the kernel keeps is looked for in the
    command line, too: its program, or the script that an interpreter runs. Processes that this user
    may not see are not found; where `/proc` cannot be listed, none is.

    Args:
        names: exact names, without a folder.
        root: the folder that stands for `/`.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return ()
    found: set[str] = set()
    with suppress(OSError):
        for process in (root / "proc").iterdir():
            if process.name.isdigit():
                found |= _names(process, wanted)
    return tuple(name for name in wanted if name in found)


def _names(process: Path, wanted: list[str]) -> set[str]:
    """Those of `wanted` that a process goes by; none where it ends while we look."""
    try:
        comm = (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
        short = {name for name in wanted if name == comm}
        cut = {name for name in wanted if len(name) > COMM_LENGTH and name[:COMM_LENGTH] == comm}
        if not cut:
            return short
        command = (process / "cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return set()
    programs = {Path(word.decode(errors="replace")).name for word in command}
    return short | (cut & programs)
