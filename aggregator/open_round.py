"""What is noted of a job beside its checkpoints, and where: the open round, and what was folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedsparse.wire.messages import RUN_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a device was given to do.

    Attributes:
        level: at which it trains.
        num_examples: how many it said that it would train on.
    """

    level: float
    num_examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """The round that is open.

    Attributes:
        round_id: its number.
        attempt: how often it was offered before.
        repeats: how often it ended without an update before; each time with other random draws.
        cohort: who takes part, and how; empty before that is known.
        closes_at_s: its deadline, as this host's calendar has it (Unix time); None before it has a
            cohort.
    """

    round_id: int
    attempt: int
    repeats: int = 0
    cohort: Mapping[str, Assignment] = field(default_factory=dict)
    closes_at_s: float | None = None

    def __post_init__(self) -> None:
        if self.closes_at_s is not None and not math.isfinite(self.closes_at_s):
            raise ValueError(f"closes_at_s is a time, not {self.closes_at_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedUpdate:
    """An update that a closed round holds.

    Attributes:
        device: whose.
        origin_round: for which it was trained.
        level, num_examples: as it said.
        digest: SHA-256 of its body, in hexadecimal.
    """

    device: str
    origin_round: int
    level: float
    num_examples: int
    digest: str


class JobStore(Protocol):
    """Keeps these notes of one job; each is on the disk when its method returns.

    All raise `StoreError` where they cannot.
    """

    @property
    def run(self) -> bytes:
        """Which run of the job it is: a number of its own."""
        ...

    def open_round(self, round_id: int) -> OpenRound | None:
        """What was noted of a round that is not closed; None where nothing was."""
        ...

    def note(self, current: OpenRound, now_s: float) -> None:
        """Note how the open round stands at `now_s` (Unix time)."""
        ...

    def close(self, round_id: int, updates: Sequence[FoldedUpdate], now_s: float) -> None:
        """Note what a round was folded of."""
        ...

    def folded(self, round_id: int) -> dict[str, str]:
        """Digests by device of what a closed round was folded of; empty where that is not known."""
        ...


class MemoryJobs:
    """Notes that go with the process, for the simulator: it resumes from its snapshots."""

    def __init__(self, run: bytes = bytes(RUN_BYTES)) -> None:
        self.run = run
        self._open: OpenRound | None = None
        self._folded: dict[int, dict[str, str]] = {}

    def open_round(self, round_id: int) -> OpenRound | None:
        """What was noted of a round that is not closed; None where nothing was."""
        known = self._open
        return known if known is not None and known.round_id == round_id else None

    def note(self, current: OpenRound, now_s: float) -> None:
        """Note how the open round stands."""
        self._open = current

    def close(self, round_id: int, updates: Sequence[FoldedUpdate], now_s: float) -> None:
        """Note what the last round was folded of."""
        self._open = None
        self._folded = {round_id: {one.device: one.digest for one in updates}}

    def folded(self, round_id: int) -> dict[str, str]:
        """Digests by device of what the last round was folded of."""
        return dict(self._folded.get(round_id, {}))
