"""How often something may happen: a few times at once, and then at a steady pace."""

from __future__ import annotations


class Allowance:
    """A token bucket.

    Args:
        burst: how often it may happen at once.
        every_s: how long it takes until it may happen once more.
    """

    def __init__(self, *, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._left = float(burst)
        self._then_s: float | None = None

    def is_left(self, now_s: float) -> bool:
        """Whether it may happen now."""
        if self._then_s is not None:
            grown = self._left + max(0.0, now_s - self._then_s) / self._every_s
            self._left = min(float(self._burst), grown)
        self._then_s = now_s
        return self._left >= 1.0

    def take(self, now_s: float) -> bool:
        """It happens, if it may; whether it may."""
        if not self.is_left(now_s):
            return False
        self._left -= 1.0
        return True
