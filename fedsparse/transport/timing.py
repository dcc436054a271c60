"""How fast transfers were that happened anyway: nothing is sent only to measure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

MOST_AT_ONCE: Final = 16  # peers name transfers, and may leave them unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One that is complete.

    Attributes:
        sent: to the broker; else received from it.
        size_bytes: that went within `seconds`, at least 1.
        seconds: positive.
    """

    sent: bool
    size_bytes: int
    seconds: float


@dataclass(slots=True)
class _Open:
    began_s: float
    size_bytes: int


class TransferTimer:
    """Times transfers by what is told of them.

    Args:
        report: is given each transfer when it is complete.
        clock: seconds, monotonic.
    """

    def __init__(self, report: Callable[[Transfer], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._open: dict[Hashable, _Open] = {}  # in the order in which they began

    def sending(self, key: Hashable, size_bytes: int) -> None:
        """These bytes are handed over now; the clock of their transfer runs from the first ones."""
        self._entry(key).size_bytes += size_bytes

    def received(self, key: Hashable, size_bytes: int) -> None:
        """These bytes have come; of a transfer's first ones nobody knows how long they took."""
        if key in self._open:
            self._open[key].size_bytes += size_bytes
        else:
            self._entry(key)

    def done(self, key: Hashable, *, sent: bool) -> None:
        """A transfer is complete."""
        entry = self._open.pop(key, None)
        if entry is None:
            return
        seconds = self._clock() - entry.began_s
        if entry.size_bytes > 0 and seconds > 0:
            self._report(Transfer(sent=sent, size_bytes=entry.size_bytes, seconds=seconds))

    def interrupted(self) -> None:
        """The connection is gone: what is under way will not tell how fast it was."""
        self._open.clear()

    def _entry(self, key: Hashable) -> _Open:
        if key not in self._open:
            if len(self._open) >= MOST_AT_ONCE:
                del self._open[next(iter(self._open))]
            self._open[key] = _Open(began_s=self._clock(), size_bytes=0)
        return self._open[key]
