"""How much may be under way at once: as much as lets others pass.

What waits in front of a slow link delays every later message, and is lost with a cut. So the bytes
under way grow as long as their acknowledgements come soon, and shrink when these are delayed by
more than `TARGET_S` (LEDBAT, RFC 6817: the queueing delay is what an acknowledgement takes beyond
the least that one took lately). It needs no rate, and holds on links of any speed and length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

TARGET_S: Final = 0.25  # what waits in front of the link
GAIN: Final = 0.2  # by what share the limit grows in a round trip, at most
FIRST_BYTES: Final = 64 * 1024
LEAST_BYTES: Final = 16 * 1024
BUCKET_S: Final = 60.0  # the least time is that of the last `BUCKETS` of these
BUCKETS: Final = 10


class Ceiling:
    """So much may be under way at once, and no more.

    Args:
        limit_bytes: that much.

    Attributes:
        limit_bytes: likewise.
    """

    def __init__(self, limit_bytes: float) -> None:
        self.limit_bytes = float(limit_bytes)
        self._under_way: dict[Hashable, int] = {}  # bytes by key
        self._in_flight_bytes = 0

    @property
    def is_low(self) -> bool:
        """Whether no more than half of what may be under way is."""
        return 2 * self._in_flight_bytes <= self.limit_bytes

    def allows(self, size_bytes: int) -> bool:
        """Whether so much more may be sent; something always may, where nothing is under way."""
        return not self._under_way or self._in_flight_bytes + size_bytes <= self.limit_bytes

    def sending(self, key: Hashable, size_bytes: int) -> None:
        """So much was handed over, or asked for."""
        self._under_way[key] = size_bytes
        self._in_flight_bytes += size_bytes

    def acknowledged(self, key: Hashable) -> None:
        """It has come through; a key that is not known was not paced."""
        self.cancelled(key)

    def cancelled(self, key: Hashable) -> None:
        """It will not come through, which says nothing of the link."""
        self._in_flight_bytes -= self._under_way.pop(key, 0)

    def interrupted(self) -> None:
        """The connection is gone, or new."""


class Pace(Ceiling):
    """What one end has under way on its link, of payloads that can wait.

    Args:
        clock: seconds, monotonic.
        most_bytes: under way, however fast the link.
    """

    def __init__(self, clock: Callable[[], float], most_bytes: int = 16 * 1024 * 1024) -> None:
        super().__init__(min(FIRST_BYTES, most_bytes))
        self._clock = clock
        self._most_bytes = most_bytes
        self._sent_s: dict[Hashable, float] = {}
        self._least_s: deque[tuple[float, float]] = deque(maxlen=BUCKETS)  # its begin, the least
        self._valid_from_s = -float("inf")

    def sending(self, key: Hashable, size_bytes: int) -> None:
        """So much was handed over, or asked for."""
        super().sending(key, size_bytes)
        self._sent_s[key] = self._clock()

    def acknowledged(self, key: Hashable) -> None:
        """It has come through, and tells how long that took; an unknown key was not paced."""
        if key not in self._under_way:
            return
        size_bytes, sent_s = self._under_way[key], self._sent_s[key]
        was_bytes = self._in_flight_bytes
        self.cancelled(key)
        if sent_s < self._valid_from_s:
            return
        now_s = self._clock()
        delay_s = now_s - sent_s - self._least(now_s, now_s - sent_s)
        share = GAIN * max(-2.0, 1 - delay_s / TARGET_S)
        if share > 0 and was_bytes < self.limit_bytes / 2:
            return  # so little says nothing of more
        limit_bytes = self.limit_bytes + share * size_bytes
        self.limit_bytes = min(self._most_bytes, max(LEAST_BYTES, limit_bytes))

    def cancelled(self, key: Hashable) -> None:
        """It will not come through, which says nothing of the link."""
        super().cancelled(key)
        self._sent_s.pop(key, None)

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
