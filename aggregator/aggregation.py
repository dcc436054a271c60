"""How a round's updates become one, with changes of any length or of a bounded one: the mean.

For the trimmed mean see aggregator/trimming.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from aggregator.updates import Asked, Contribution
from fedsparse.methods.clipping import shrunk
from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.methods.statistics import StatisticsMean, running_positions
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, Float64Array, Weights
from fedsparse.wire.messages import Update

RULES: Final = ("mean", "trimmed_mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateConfig:
    """How updates become one model, the `[aggregate]` table (docs/algorithm.md).

    Attributes:
        rule: `mean`, weighted by examples, or `trimmed_mean`, which leaves out the largest and the
            smallest values of each weight.
        trim: `trimmed_mean`: the share of devices that is left out at each end.
        clip_norm: changes are shortened to this length (Euclidean, over all that was trained).
            None leaves them as they are.
    """

    rule: str = "mean"
    trim: float = 0.1
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got '{self.rule}'")
        if not 0 < self.trim < 0.5:
            raise ValueError(f"trim must be more than 0 and less than 0.5, got {self.trim}")
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise ValueError(f"clip_norm must be positive, got {self.clip_norm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinkage:
    """What the changes of one update are multiplied by: of what was trained, and of statistics."""

    trained: float = 1.0
    statistics: float = 1.0


UNCHANGED: Final = Shrinkage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One update of a round, to be folded.

    Attributes:
        update, contribution: what came, whole, with values.
        examples: that it counts as; fewer than it claims where those are too many.
        asked: what its task was.
        shrinkage: of its changes.
        read: yields so many bytes of its body from an offset on, as long as the round is folded.
    """

    update: Update
    contribution: Contribution
    examples: int
    asked: Asked
    shrinkage: Shrinkage
    read: Callable[[int, int], bytes]


class Aggregation(Protocol):
    """Takes a round's updates one by one."""

    def add(self, member: Member) -> None:
        """Take one update."""
        ...

    def result(self, previous: Weights) -> Weights:
        """All of them as one; what nobody holds is as in `previous` (dense vectors)."""
        ...

    def statistics(self) -> Mapping[float, Float32Array]:
        """Running statistics by level, `(num_running,)`; empty where levels share them."""
        ...


class Mean:
    """The masked mean, weighted by examples: memory of one model, whatever the cohort.

    Args:
        plan: whose values come.
        reference_compat: see `MaskedMean`.
        level_statistics: whether each level has running statistics of its own.
    """

    def __init__(self, plan: Plan, *, reference_compat: bool, level_statistics: bool) -> None:
        self._mean = MaskedMean(
            plan.num_prunable, plan.num_dense, reference_compat=reference_compat
        )
        self._statistics = StatisticsMean(plan)
        self._by_level = level_statistics and not reference_compat
        self._is_running = np.zeros(plan.num_dense, np.bool_)
        self._is_running[running_positions(plan)] = True

    def add(self, member: Member) -> None:
        """See `Aggregation`."""
        mask, weights = member.contribution.mask, _clipped(member, self._is_running)
        if mask is None or weights is None:
            return
        self._mean.add(np.flatnonzero(mask), weights, member.examples)
        if self._by_level:
            self._statistics.add(member.update.level, weights.dense, member.examples)

    def result(self, previous: Weights) -> Weights:
        """See `Aggregation`."""
        return self._mean.result(previous)

    def statistics(self) -> Mapping[float, Float32Array]:
        """See `Aggregation`."""
        return self._statistics.result()


def factors_of(shrinkage: Shrinkage, is_running: BoolArray) -> Float64Array:
    """What each dense value's change is multiplied by, as `is_running`: which are statistics."""
    return np.where(is_running, shrinkage.statistics, shrinkage.trained)


def _clipped(member: Member, is_running: BoolArray) -> Weights | None:
    """The values of an update after changes of bounded length."""
    before, after = member.contribution.before, member.contribution.weights
    if before is None or after is None or member.shrinkage == UNCHANGED:
        return after
    factors = factors_of(member.shrinkage, is_running)
    return Weights(
        prunable=shrunk(before.prunable, after.prunable, member.shrinkage.trained),
        dense=shrunk(before.dense, after.dense, factors),
    )
