"""The large messages that are on their way, to one peer or to many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedsparse.wire.reassembly import Limits
from fedsparse.wire.transfer import Outgoing


@dataclass(slots=True)
class _Entry:
    outgoing: Outgoing
    touched_s: float


@dataclass(frozen=True, slots=True)
class DueChunk:
    """A chunk that is to be sent now."""

    peer: str
    transfer: str
    index: int
    frame: bytes
    payload_bytes: int


class Outbox:
    """Transfers by peer; one is kept for a while after it was sent, for what gets lost behind it.

    Args:
        limits: a peer has so many open at the other end; more are not kept here either.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: dict[tuple[str, str], _Entry] = {}  # in the order in which they were put

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged all chunks."""
        return all(entry.outgoing.done for entry in self._entries.values())

    def put(self, peer: str, outgoing: Outgoing, now_s: float) -> None:
        """Start a transfer; one that is under way already just goes on."""
        key = (peer, outgoing.transfer)
        before = self._entries.get(key)
        if before is not None and not before.outgoing.done:
            return
        self._entries.pop(key, None)
        others = [other for other in self._entries if other[0] == peer]
        for other in others[: max(0, len(others) + 1 - self._limits.open_transfers)]:
            del self._entries[other]
        self._entries[key] = _Entry(outgoing=outgoing, touched_s=now_s)

    def due_chunks(self, allows: Callable[[int], bool]) -> Iterator[DueChunk]:
        """The chunks that may be sent now, transfer by transfer in their order.

        Args:
            allows: whether so many bytes more may be sent; asked before each chunk.
        """
        for (peer, transfer), entry in list(self._entries.items()):
            outgoing = entry.outgoing
            while outgoing.may_send:
                if not allows(outgoing.chunk_bytes):
                    return  # nor what comes after: smaller chunks must not keep it waiting
                index, frame = outgoing.next_chunk()
                yield DueChunk(peer, transfer, index, frame, outgoing.chunk_bytes)

    def put_back(self, due: DueChunk) -> None:
        """A chunk that was to be sent was not."""
        if entry := self._entries.get((due.peer, due.transfer)):
            entry.outgoing.put_back(due.index)

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
