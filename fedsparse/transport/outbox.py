"""The large messages that are on their way, to one peer or to many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedsparse.wire.reassembly import Limits
from fedsparse.wire.transfer import Outgoing


@dataclass(slots=True)
class _Entry:
    outgoing: Outgoing
    touched_s: float


class Outbox:
    """Transfers by peer; one is kept for a while after it was sent, for what gets lost behind it.

    Args:
        window: chunks in flight at most to one peer and transfer.
        limits: a peer has so many open at the other end; more are not kept here either.
    """

    def __init__(self, window: int, limits: Limits) -> None:
        self._window = window
        self._limits = limits
        self._entries: dict[tuple[str, str], _Entry] = {}  # in the order in which they were put

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged all chunks."""
        return all(entry.outgoing.done for entry in self._entries.values())

    def put(self, peer: str, pieces: Sequence[bytes], chunk_bytes: int, now_s: float) -> None:
        """Start a transfer; one that is under way already just goes on."""
        outgoing = Outgoing(pieces, chunk_bytes=chunk_bytes, window=self._window)
        key = (peer, outgoing.transfer)
        if key in self._entries and not self._entries[key].outgoing.done:
            return
        self._entries.pop(key, None)
        others = [other for other in self._entries if other[0] == peer]
        for other in others[: max(0, len(others) + 1 - self._limits.open_transfers)]:
            del self._entries[other]
        self._entries[key] = _Entry(outgoing=outgoing, touched_s=now_s)

    def next_chunks(self, room: int) -> Iterator[tuple[str, str, int, bytes]]:
        """At most `room` chunks that may be sent now, as (peer, transfer, index, frame)."""
        for (peer, transfer), entry in list(self._entries.items()):
            if room <= 0:
                return
            for index, frame in entry.outgoing.next_chunks(room):
                room -= 1
                yield peer, transfer, index, frame

    def acknowledged(self, peer: str, transfer: str, index: int) -> bool:
        """The broker has taken a chunk; True where it has all of them now."""
        entry = self._entries.get((peer, transfer))
        if entry is None:
            return False
        entry.outgoing.acknowledged(index)
        return entry.outgoing.done

    def resend(self, peer: str, transfer: str, missing: bytes, now_s: float) -> None:
        """`peer` lacks chunks; a transfer that is not kept any more is left to the application.

        Raises:
            RemoteProtocolError: the bitmap does not fit the transfer.
        """
        if entry := self._entries.get((peer, transfer)):
            entry.outgoing.resend(missing)
            entry.touched_s = now_s

    def expire(self, now_s: float) -> None:
        """Forget transfers that were sent long ago and not asked about since."""
        for key, entry in list(self._entries.items()):
            if entry.outgoing.done and now_s - entry.touched_s >= self._limits.idle_s:
                del self._entries[key]
