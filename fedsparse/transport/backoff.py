"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

SPREAD: Final = 4.0
HELD_S: Final = 10.0  # a connection that lasted so long was a good one


class Backoff:
    """Pauses that double, and differ from client to client.

    Who lost one broker must not come back in the same second, nor in step later: the first pause is
    half to `SPREAD` times `shortest_s`, every later one is drawn anew from the upper half of its
    range. A connection ends the doubling when it has lasted for `HELD_S`, not when it is made: a
    broker that comes and goes is not to be hammered by its fleet.

    Args:
        shortest_s, longest_s: about the first pause, and the longest.
        rng: draws.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        shortest_s: float,
        longest_s: float,
        *,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._rng = rng
        self._clock = clock
        self._range_s: float | None = None  # of the last pause; None: none is to be doubled
        self._connected_s: float | None = None

    def connected(self) -> None:
        """A connection stands."""
        self._connected_s = self._clock()

    def next_pause_s(self) -> float:
        """The connection is gone, or an attempt has failed: how long to wait now."""
        since_s, self._connected_s = self._connected_s, None
        if since_s is not None and self._clock() - since_s >= HELD_S:
            self._range_s = None
        if self._range_s is None:
            self._range_s = self._shortest_s * self._rng.uniform(0.5, SPREAD)
            return self._range_s
        self._range_s = min(2 * self._range_s, max(self._longest_s, self._shortest_s))
        return self._range_s * self._rng.uniform(0.5, 1.0)
