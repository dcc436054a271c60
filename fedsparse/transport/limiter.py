"""How much one device may say, so that others are heard; and how much is told of its mistakes.

Whoever has said something good before has an allowance of its own. All names that have not share
one: names are easily invented, where the broker lets in whoever comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MESSAGES_PER_S: Final = 50.0
MESSAGES_AT_ONCE: Final = 200
LEAST_BYTES_PER_MINUTE: Final = 32 * 1024 * 1024
STRANGERS: Final = 10_000  # a fleet may say at once that it is there
STRANGERS_PER_S: Final = 500.0
TOLD_AT_ONCE: Final = 10
TOLD_PER_S: Final = 1 / 60
MINUTE_S: Final = 60.0


@dataclass(slots=True)
class Bucket:
    """What may be used at once, and what is given again with time.

    Attributes:
        most: that may pile up.
        per_s: that is given again.
        left: that may be used now.
        then_s: when that was so.
    """

    most: float
    per_s: float
    left: float
    then_s: float

    @classmethod
    def full(cls, most: float, per_s: float, now_s: float) -> Bucket:
        """One of which nothing was used."""
        return cls(most=most, per_s=per_s, left=most, then_s=now_s)

    def has(self, amount: float, now_s: float) -> bool:
        """Whether so much may be used now."""
        self.left = min(self.most, self.left + self.per_s * max(0.0, now_s - self.then_s))
        self.then_s = now_s
        return self.left >= amount

    def take(self, amount: float) -> None:
        """Use it; a negative amount gives it back."""
        self.left = min(self.most, self.left - amount)


@dataclass(frozen=True, slots=True)
class _Allowance:
    messages: Bucket
    size: Bucket


class Limiter:
    """Who may say something now.

    Args:
        transfer_bytes: of the largest body that a device may send; two of them a minute are good.
        names: that are known apart at most.
        clock: seconds, monotonic.
    """

    def __init__(self, transfer_bytes: int, names: int, clock: Callable[[], float]) -> None:
        self._bytes = max(2 * transfer_bytes, LEAST_BYTES_PER_MINUTE)
        self._names = names
        self._clock = clock
        self._known: dict[str, _Allowance] = {}
        self._strangers = self._make(STRANGERS, STRANGERS_PER_S)

    def takes(self, name: str, size_bytes: int) -> bool:
        """Whether a payload may be looked at; it counts then."""
        now_s, allowance = self._clock(), self._of(name)
        messages, size = allowance.messages, allowance.size
        if not (messages.has(1, now_s) and size.has(size_bytes, now_s)):
            return False
        messages.take(1)
        size.take(size_bytes)
        return True

    def asked_for(self, name: str, size_bytes: int) -> None:
        """A payload that was taken is one that was asked for: it does not count."""
        allowance = self._of(name)
        allowance.messages.take(-1)
        allowance.size.take(-size_bytes)

    def knows(self, name: str) -> None:
        """It has said something good: it has an allowance of its own from now on."""
        if name not in self._known and len(self._known) < self._names:
            self._known[name] = self._make(MESSAGES_AT_ONCE, MESSAGES_PER_S)

    def _of(self, name: str) -> _Allowance:
        return self._known.get(name, self._strangers)

    def _make(self, messages: int, per_s: float) -> _Allowance:
        now_s = self._clock()
        return _Allowance(
            Bucket.full(messages, per_s, now_s),
            Bucket.full(self._bytes, self._bytes / MINUTE_S, now_s),
        )


class Telling:
    """Which of many mistakes are told: the first ones of each name, then one a minute.

    Args:
        names: that are known apart at most; all others are one.
        clock: seconds, monotonic.
        at_once, per_s: how many are told.
    """

    def __init__(
        self,
        names: int,
        clock: Callable[[], float],
        *,
        at_once: int = TOLD_AT_ONCE,
        per_s: float = TOLD_PER_S,
    ) -> None:
        self._names = names
        self._clock = clock
        self._at_once, self._per_s = at_once, per_s
        self._told: dict[str, tuple[Bucket, int]] = {}  # and how many were not

    def of(self, name: str) -> int | None:
        """Whether the next one is to be told: how many were not, since the last; else None."""
        now_s = self._clock()
        if name not in self._told and len(self._told) >= self._names:
            name = ""
        full = Bucket.full(self._at_once, self._per_s, now_s)
        bucket, silent = self._told.get(name, (full, 0))
        if not bucket.has(1, now_s):
            self._told[name] = bucket, silent + 1
            return None
        bucket.take(1)
        self._told[name] = bucket, 0
        return silent
