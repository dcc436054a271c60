"""The small files in which the kernel says what it knows, below a folder that stands for `/`."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
MAX_CPU: Final = 4095
MAX_WORDS: Final = 48  # of a wrong value that is quoted


class KernelFiles:
    """Reads below a root, and notes what it cannot believe or may not read.

    Args:
        root: the folder that stands for `/`.

    Attributes:
        unknown: what could not be read, and why; a file that does not exist is no news.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.unknown: list[str] = []

    def text(self, path: str) -> str | None:
        """The printable ASCII of a file, lines kept; None where it cannot be read."""
        try:
            raw = (self._root / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.unknown.append(f"/{path}: {error.strerror}")
            return None
        kept = (chr(byte) for byte in raw if 32 <= byte < 127 or byte in b"\n\t")
        return "".join(kept).strip()

    def number(self, path: str, low: int, high: int) -> int | None:
        """A whole number; None where there is none, or not one from `low` to `high`."""
        text = self.text(path)
        if text is None:
            return None
        if INTEGER.fullmatch(text) and low <= int(text) <= high:
            return int(text)
        self.unknown.append(f"/{path}: {text[:MAX_WORDS]!r} is not from {low} to {high}")
        return None

    def cpus(self, path: str) -> tuple[int, ...] | None:
        """A list of processors such as `0-3,5` or `0 1 2`; None where there is none."""
        text = self.text(path)
        return None if not text else self._noted(path, text)

    def names(self, folder: str, pattern: str) -> list[str]:
        """The entries of a folder that match a pattern, 2 before 10; as paths below the root."""
        try:
            found = [path.name for path in (self._root / folder).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            self.unknown.append(f"/{folder}: {error.strerror}")
            return []
        fitting = fnmatch.filter(found, pattern)
        return [f"{folder}/{name}" for name in sorted(fitting, key=_natural)]

    def lack(self, what: str, why: str) -> None:
        """Note that a fact is unknown."""
        self.unknown.append(f"{what}: {why}")

    def _noted(self, path: str, text: str) -> tuple[int, ...] | None:
        found = cpu_list(text)
        if found is None:
            self.unknown.append(f"/{path}: {text[:MAX_WORDS]!r} is no list of processors")
        return found


def cpu_list(text: str) -> tuple[int, ...] | None:
    """The processors that `0-3,5` or `0 1 2` names, sorted; None where it is something else."""
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        first, dash, last = part.partition("-")
        if not (_is_cpu(first) and (not dash or _is_cpu(last))):
            return None
        found.update(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(found))


def _is_cpu(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text[:5]) <= MAX_CPU and len(text) <= 4


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
