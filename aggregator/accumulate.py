"""Folding a closed round's spool into one model: memory O(model), whatever the cohort.

The spool is read in device order, so that the result is the same to the bit in whatever order the
updates arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aggregator.updates import Contribution
from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.methods.statistics import StatisticsMean
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.messages import Evaluation, Update


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a method wants to know of one device's update."""

    device: str
    num_examples: int
    level: float
    counts: tuple[int, ...]


@dataclass(slots=True)
class Score:
    """Right answers of so many, and their loss; a sum of any number of `Evaluation`s."""

    correct: int = 0
    count: int = 0
    loss_sum: float = 0.0

    def add(self, evaluation: Evaluation) -> None:
        """Pool in what one holder found."""
        self.correct += evaluation.correct
        self.count += evaluation.count
        self.loss_sum += evaluation.loss_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A closed round.

    Attributes:
        mean: the weighted masked mean; None where no update carried values.
        reports: one a device, in device order.
        scores: of the model that was sent out, by level, pooled over devices.
        loss: mean training loss, weighted by examples.
        statistics: running statistics of each level that was trained; empty where levels share
            them, or the plan has none.
        own_masks: yields the mask of each device whose mask evolved, read again from the spool.
    """

    mean: Weights | None
    reports: Sequence[Report]
    scores: dict[float, Score]
    loss: float
    own_masks: Callable[[], Iterator[tuple[str, BoolArray]]]
    statistics: Mapping[float, Float32Array] = field(default_factory=dict)


ReadUpdate = Callable[[str], tuple[Update, Contribution] | None]


def fold(
    plan: Plan,
    devices: Sequence[str],
    read: ReadUpdate,
    previous: Weights,
    *,
    evolved: bool,
    reference_compat: bool = False,
    level_statistics: bool = True,
) -> Folded:
    """Fold the updates of `devices` in the order given.

    Args:
        plan: the model's layers.
        devices: who delivered, sorted.
        read: yields a device's update from the spool, checked; None where it is damaged.
        previous: the model before the round; a coordinate that nobody holds keeps its value.
        evolved: whether devices changed their masks.
        reference_compat: see `MaskedMean`.
        level_statistics: whether running statistics are kept apart for each level (the reference
            does not).
    """
    mean = MaskedMean(plan.num_prunable, plan.num_dense, reference_compat=reference_compat)
    statistics = StatisticsMean(plan)
    reports: list[Report] = []
    scores: dict[float, Score] = defaultdict(Score)
    with_values, examples, loss_sum = 0, 0, 0.0
    for device in devices:
        found = read(device)
        if found is None:
            continue
        update, contribution = found
        if contribution.mask is not None and contribution.weights is not None:
            mean.add(np.flatnonzero(contribution.mask), contribution.weights, update.num_examples)
            with_values += 1
            if level_statistics and not reference_compat:
                statistics.add(update.level, contribution.weights.dense, update.num_examples)
        if update.evaluation is not None:
            scores[update.level].add(update.evaluation)
        examples += update.num_examples
        loss_sum += update.loss * update.num_examples
        reports.append(
            Report(
                device=device,
                num_examples=update.num_examples,
                level=update.level,
                counts=contribution.counts,
            )
        )
    return Folded(
        mean=mean.result(previous) if with_values else None,
        reports=reports,
        scores=dict(scores),
        loss=loss_sum / max(1, examples),
        statistics=statistics.result(),
        own_masks=lambda: _masks([one.device for one in reports] if evolved else (), read),
    )


def _masks(devices: Sequence[str], read: ReadUpdate) -> Iterator[tuple[str, BoolArray]]:
    for device in devices:
        found = read(device)
        if found is not None and found[1].mask is not None:
            yield device, found[1].mask
