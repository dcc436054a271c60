"""A diary that no device fills, whatever it says and however often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aggregator.events import Diary
from fedsparse.transport.limiter import Telling

AT_THEIR_WORD: Final = frozenset(
    ("device_ready", "device_failed", "device_online", "device_offline", "device_decided")
)
AT_ONCE: Final = 500  # of a device, and then one a second: more than any job makes
DEVICES: Final = 10_000


class BoundedDiary:
    """Of what is noted at a device's word, so much and no more.

    Args:
        diary: that is kept.
        clock: seconds, monotonic.
    """

    def __init__(self, diary: Diary, clock: Callable[[], float]) -> None:
        self._diary = diary
        self._telling = Telling(DEVICES, clock, at_once=AT_ONCE, per_s=1.0)

    def write(self, event: str, **fields: object) -> None:
        """Note one event; where some of the device were not noted before it, how many."""
        silent: int | None = 0
        if event in AT_THEIR_WORD:
            silent = self._telling.of(str(fields.get("device")))
        if silent is not None:
            more = {"untold": silent} if silent else {}
            self._diary.write(event, **fields, **more)
