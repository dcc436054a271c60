"""How much may be under way at once: as much as lets others pass.

What waits in front of a slow link delays every later message, and is lost with a cut. So the bytes
under way grow as long as their acknowledgements come soon, and shrink when these are delayed by
more than `TARGET_S` (LEDBAT, RFC 6817: the queueing delay is what an acknowledgement takes beyond
the least that one took lately). It needs no rate, and holds on links of any speed and length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

TARGET_S: Final = 0.25  # what waits in front of the link
GAIN: Final = 0.2  # by what share the limit grows in a round trip, at most
FIRST_BYTES: Final = 64 * 1024
LEAST_BYTES: Final = 16 * 1024
BUCKET_S: Final = 60.0  # the least time is that of the last `BUCKETS` of these
BUCKETS: Final = 10


class Pace:
    """What one end has under way, of payloads that can wait.

    Args:
        clock: seconds, monotonic.
        most_bytes: under way, however fast the link.

    Attributes:
        limit_bytes: what may be under way at once.
    """

    def __init__(self, clock: Callable[[], float], most_bytes: int = 16 * 1024 * 1024) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self.limit_bytes = float(min(FIRST_BYTES, most_bytes))
        self._under_way: dict[int, tuple[int, float]] = {}  # handle -> bytes, when handed over
        self._in_flight_bytes = 0
        self._least_s: deque[tuple[float, float]] = deque(maxlen=BUCKETS)  # its begin, the least
        self._valid_from_s = -float("inf")

    def allows(self, size_bytes: int) -> bool:
        """Whether so much more may be sent; something always may, where nothing is under way."""
        return not self._under_way or self._in_flight_bytes + size_bytes <= self.limit_bytes

    def sending(self, handle: int, size_bytes: int) -> None:
        """So much was handed over."""
        self._under_way[handle] = size_bytes, self._clock()
        self._in_flight_bytes += size_bytes

    def acknowledged(self, handle: int) -> None:
        """The broker has it; a handle that is not known was not paced."""
        if handle not in self._under_way:
            return
        size_bytes, sent_s = self._under_way.pop(handle)
        was_bytes = self._in_flight_bytes
        self._in_flight_bytes -= size_bytes
        if sent_s < self._valid_from_s:
            return
        now_s = self._clock()
        delay_s = now_s - sent_s - self._least(now_s, now_s - sent_s)
        share = GAIN * max(-2.0, 1 - delay_s / TARGET_S)
        if share > 0 and was_bytes < self.limit_bytes / 2:
            return  # so little says nothing of more
        limit_bytes = self.limit_bytes + share * size_bytes
        self.limit_bytes = min(self._most_bytes, max(LEAST_BYTES, limit_bytes))

    def interrupted(self) -> None:
        """The connection is gone, or new: what is under way says nothing of it."""
        self._valid_from_s = self._clock()
        self._least_s.clear()

    def _least(self, now_s: float, took_s: float) -> float:
        """The least that an acknowledgement took lately, this one included."""
        if not self._least_s or now_s >= self._least_s[-1][0] + BUCKET_S:
            self._least_s.append((now_s, took_s))
        began_s, least_s = self._least_s[-1]
        self._least_s[-1] = began_s, min(least_s, took_s)
        return min(least for _, least in self._least_s)
