"""The large bodies that others may ask for, and the chunks that they asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fedsparse.body import Body
from fedsparse.wire.frame import Absent
from fedsparse.wire.messages import Need
from fedsparse.wire.transfer import asked_for, encode_chunk


@dataclass(frozen=True, slots=True)
class DueChunk:
    """A chunk that is to be sent now."""

    peer: str
    transfer: str
    index: int
    frame: bytes


@dataclass(slots=True)
class _Held:
    body: Body
    absent: Absent
    touched_s: float
    unsent: set[int]  # chunks that the broker has never taken
    asked: dict[int, None] = field(default_factory=dict)  # in the order in which they are sent
    in_flight: set[int] = field(default_factory=set)

    @property
    def done(self) -> bool:
        return not self.asked and not self.in_flight


class Outbox:
    """The body that each peer may ask for: the latest one.

    Args:
        idle_s: how long one is kept that nobody asks for.
        window: how many chunks of a body may be in flight at once.
        clock: seconds, monotonic.
    """

    def __init__(
        self, idle_s: float, window: Callable[[Absent], int], clock: Callable[[], float]
    ) -> None:
        self._idle_s = idle_s
        self._window = window
        self._clock = clock
        self._held: dict[str, _Held] = {}  # in the order in which they were put

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged all chunks that were asked for."""
        return all(held.done for held in self._held.values())

    def put(self, peer: str, body: Body, absent: Absent) -> None:
        """From now on `peer` may ask for this; where it did already, that goes on."""
        before = self._held.get(peer)
        if before is not None and before.absent == absent:
            before.body, before.touched_s = body, self._clock()
            return
        self._held.pop(peer, None)
        self._held[peer] = _Held(
            body=body, absent=absent, touched_s=self._clock(), unsent=set(range(absent.count))
        )

    def ask(self, peer: str, need: Need) -> None:
        """`peer` asks for chunks; of a body that is not here the application sends a head anew.

        Raises:
            RemoteProtocolError: the body has no such chunks.
        """
        held = self._held.get(peer)
        if held is None or held.absent.digest != need.transfer:
            return
        held.touched_s = self._clock()
        for index in asked_for(need, held.absent.count):
            if index not in held.in_flight:
                held.asked[index] = None

    def due_chunks(self, allows: Callable[[int], bool]) -> Iterator[DueChunk]:
        """The chunks that may be sent now, body by body in their order.

        A body that cannot be read any more is forgotten: what it was for has gone.

        Args:
            allows: whether so many bytes more may be sent; asked before each chunk.
        """
        for peer, held in list(self._held.items()):
            window = self._window(held.absent)
            while held.asked and len(held.in_flight) < window:
                if not allows(held.absent.chunk_bytes):
                    return  # nor what comes after: smaller chunks must not keep it waiting
                index = next(iter(held.asked))
                try:
                    payload = held.body.read(held.absent.offset(index), held.absent.length(index))
                except OSError:
                    del self._held[peer]
                    break
                del held.asked[index]
                held.in_flight.add(index)
                yield DueChunk(peer, held.absent.digest, index, encode_chunk(payload))

    def put_back(self, due: DueChunk) -> None:
        """A chunk that was to be sent was not: it comes next."""
        if held := self._find(due.peer, due.transfer):
            held.in_flight.discard(due.index)
            held.asked = {due.index: None, **held.asked}

    def acknowledged(self, peer: str, transfer: str, index: int) -> bool:
        """The broker has taken a chunk; True where it has had all of the body then."""
        held = self._find(peer, transfer)
        if held is None:
            return False
        held.in_flight.discard(index)
        held.unsent.discard(index)
        return not held.unsent

    def expire(self) -> None:
        """Forget what nobody has asked for in a long time."""
        for peer, held in list(self._held.items()):
            if not held.in_flight and self._clock() - held.touched_s >= self._idle_s:
                del self._held[peer]

    def _find(self, peer: str, transfer: str) -> _Held | None:
        held = self._held.get(peer)
        return held if held is not None and held.absent.digest == transfer else None
