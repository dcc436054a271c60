"""What can be told from a shared library's header before it is loaded.

The system's loader calls another processor's library "not found", and a truncated one can kill the
process that loads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"\x7fELF"
HEADER: Final = struct.Struct("<4s2s10xHH20xQ10xHH2x")  # of 64 bits
INTERPRETER: Final = Path("/proc/self/exe")
MACHINES: Final = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True, slots=True)
class Elf:
    """A library or a program.

    Attributes:
        kind: 32 or 64 bits, and the order of bytes, as the header has them.
        machine: the number of its processor.
        end: bytes up to the end of the section table, the last thing in a library of ours.
    """

    kind: bytes
    machine: int
    end: int

    @property
    def processor(self) -> str:
        """The processor's name."""
        return MACHINES.get(self.machine, f"processor {self.machine}")


def library_fault(path: Path) -> str | None:
    """Why this Python cannot load `path`; None where its header says nothing against it.

    Raises:
        OSError: the file cannot be read.
    """
    library, own = read_elf(path), read_elf(INTERPRETER)
    if library is None:
        return "it is no shared library"
    if own and (library.kind, library.machine) != (own.kind, own.machine):
        return f"it was built for {library.processor}, this is {own.processor}"
    size = path.stat().st_size
    return f"it is cut off: {size} bytes of {library.end}" if size < library.end else None


def read_elf(path: Path) -> Elf | None:
    """The header of a file; None where it has none.

    Source: System V Application Binary Interface, chapter 4, ELF header.
    """
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    magic, kind, _, machine, sections, section_bytes, count = HEADER.unpack(head)
    if magic != MAGIC:
        return None
    return Elf(kind=kind, machine=machine, end=sections + section_bytes * count)
