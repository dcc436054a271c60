"""What a load test has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

LEAST_UPDATES_PER_S: Final = 1500.0
MOST_SLOPE_MB: Final = 0.1  # a round


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRound:
    """One round.

    Attributes:
        number: of the round.
        sent_s: when the clients were told to send (monotonic).
        took_s: from then until the last client had its receipt.
        rss_mb: of the aggregator, when all clients had their tasks.
        cpu_s: processor time between the two, by process.
    """

    number: int
    sent_s: float
    took_s: float
    rss_mb: float
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """All rounds; MB are 1e6 bytes.

    Attributes:
        clients, tls: how many, and with TLS.
        rounds, updates: that were closed, and folded into them.
        updates_per_s: median over the steady rounds: clients, by the time from the first byte of
            the first update to the last receipt at its client; every update is then on the disk.
        whole_updates_per_s: with offers, answers, tasks, folding and checkpoints.
        lost: receipts for updates that were not folded.
        duplicated: updates that were folded more often than they have receipts.
        unanswered: updates without a receipt.
        wrong_means: rounds whose model is not the mean of what their clients sent.
        rss_slope_mb: what the aggregator grows in a round, by least squares over the steady ones.
        rss_mb: of the aggregator at most.
        cpu_s: processor time of the steady rounds, while updates came, by process.
        cpu_wall_s: how long that was.
        each: all rounds.
    """

    clients: int
    tls: int
    rounds: int
    updates: int
    updates_per_s: float
    whole_updates_per_s: float
    lost: int
    duplicated: int
    unanswered: int
    wrong_means: tuple[int, ...]
    rss_slope_mb: float
    rss_mb: float
    cpu_s: Mapping[str, float]
    cpu_wall_s: float
    each: tuple[Mapping[str, Any], ...]

    @property
    def exact(self) -> bool:
        """Whether every update counts once."""
        return not (self.lost or self.duplicated or self.unanswered or self.wrong_means)

    @property
    def holds(self) -> bool:
        """All of it."""
        return (
            self.exact
            and self.rss_slope_mb <= MOST_SLOPE_MB
            and self.updates_per_s >= LEAST_UPDATES_PER_S
        )

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "exact": self.exact, "holds": self.holds}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line through the points, by least squares; 0 for a single one."""
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else 0.0
