"""How much of a grid is done, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Mapping


class Pace:
    """Counts the rounds of many runs; what an earlier start had done does not make it look fast.

    Args:
        rounds: of every run that is still to do, by name.
    """

    def __init__(self, rounds: Mapping[str, int]) -> None:
        self._rounds = dict(rounds)
        self._done: dict[str, int] = {}
        self._found: dict[str, int] = {}  # done before this start

    def tell(self, run: str, done: int) -> None:
        """A run has closed `done` of its rounds."""
        self._found.setdefault(run, max(0, done - 1))
        self._done[run] = min(done, self._rounds[run])

    def end(self, run: str) -> None:
        """A run is done or given up: nothing of it is left."""
        self._found.setdefault(run, self._rounds[run])  # it told of no round
        self._rounds[run] = self._done[run] = self._done.get(run, self._rounds[run])

    @property
    def share(self) -> float:
        """How much of all rounds is done, from 0 to 1."""
        total = sum(self._rounds.values())
        return sum(self._done.values()) / total if total else 1.0

    def left_s(self, passed_s: float) -> float | None:
        """Seconds to go at the mean speed so far; None before the first round."""
        done = sum(self._done.values())
        gained = done - sum(self._found.values())
        if gained <= 0:
            return None
        return passed_s / gained * (sum(self._rounds.values()) - done)
