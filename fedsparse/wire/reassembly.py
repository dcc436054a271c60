"""The transfers that one peer has open, within bounds (docs/wire.md, section 6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.transfer import Chunk, Incoming


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may occupy, and how patient its receiver is.

    Attributes:
        open_transfers: at once; one more closes the one that has been idle longest.
        transfer_bytes: of one transfer; all of a peer's together may take twice as much.
        stall_s: without a new chunk, before the missing ones are asked for.
        idle_s: without a new chunk, before a transfer is given up.
    """

    open_transfers: int = 2
    transfer_bytes: int = 256 * 1024 * 1024
    stall_s: float = 5.0
    idle_s: float = 300.0

    def __post_init__(self) -> None:
        if self.open_transfers < 1 or self.transfer_bytes < 1:
            raise ValueError("open_transfers and transfer_bytes must be at least 1")
        if not 0 < self.stall_s <= self.idle_s:
            raise ValueError("0 < stall_s <= idle_s must hold")


@dataclass(slots=True)
class _Open:
    incoming: Incoming
    touched_s: float
    asked_s: float
    quiet: bool  # it was complete once: late duplicates must not ask for the rest


class Reassembly:
    """What one peer is sending.

    Args:
        limits: the bounds.
        open_sink: yields an empty file, open for reading and writing, for one transfer.
    """

    def __init__(self, limits: Limits, open_sink: Callable[[], BinaryIO]) -> None:
        self._limits = limits
        self._open_sink = open_sink
        self._open: dict[str, _Open] = {}
        self._completed: deque[str] = deque(maxlen=16)

    def __len__(self) -> int:
        """Number of open transfers."""
        return len(self._open)

    def add(self, chunk: Chunk, now_s: float) -> bytes | None:
        """Take a chunk; the whole frame where it was the last one missing.

        Raises:
            RemoteProtocolError: it breaks a bound or contradicts earlier ones. A transfer whose
                bytes turn out not to be those of its id is dropped.
        """
        entry = self._open.get(chunk.transfer) or self._start(chunk, now_s)
        if entry.incoming.add(chunk):
            entry.touched_s = entry.asked_s = now_s
        if not entry.incoming.complete:
            return None
        try:
            entry.incoming.verify()
            self._completed.append(chunk.transfer)
            return entry.incoming.frame()
        finally:
            self._drop(chunk.transfer)

    def stalled(self, now_s: float, *, at_once: bool = False) -> list[tuple[str, bytes]]:
        """Transfers to ask the sender about, as (id, bitmap of missing chunks).

        Args:
            now_s: the time.
            at_once: do not wait for `stall_s`: the connection was cut.
        """
        self._expire(now_s)
        asked = []
        for transfer, entry in self._open.items():
            waited = now_s - entry.asked_s >= self._limits.stall_s
            if (waited or at_once) and not entry.quiet:
                entry.asked_s = now_s
                asked.append((transfer, entry.incoming.missing()))
        return asked

    def close(self) -> None:
        """Drop all open transfers."""
        for transfer in list(self._open):
            self._drop(transfer)

    def _start(self, chunk: Chunk, now_s: float) -> _Open:
        if chunk.total > self._limits.transfer_bytes:
            raise RemoteProtocolError(
                f"a transfer of {chunk.total} bytes, limit {self._limits.transfer_bytes}"
            )
        while self._open and not self._has_room(chunk.total):
            self._drop(min(self._open, key=lambda transfer: self._open[transfer].touched_s))
        entry = _Open(
            incoming=Incoming(chunk, self._open_sink()),
            touched_s=now_s,
            asked_s=now_s,
            quiet=chunk.transfer in self._completed,
        )
        self._open[chunk.transfer] = entry
        return entry

    def _has_room(self, total: int) -> bool:
        taken = sum(entry.incoming.total for entry in self._open.values())
        return (
            len(self._open) < self._limits.open_transfers
            and taken + total <= 2 * self._limits.transfer_bytes
        )

    def _expire(self, now_s: float) -> None:
        for transfer, entry in list(self._open.items()):
            if now_s - entry.touched_s >= self._limits.idle_s:
                self._drop(transfer)

    def _drop(self, transfer: str) -> None:
        self._open.pop(transfer).incoming.close()
