"""Folding a closed round's spool into one model: memory O(model), whatever the cohort.

The spool is read in device order, so that the result is the same to the bit in whatever order the
updates arrived.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.aggregation import UNCHANGED, Aggregation, Member, Shrinkage
from aggregator.norms import Norms, norms_of
from aggregator.updates import Asked, Contribution
from fedsparse.methods.clipping import shrinkage
from fedsparse.methods.statistics import running_positions
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights
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
        mean: of all updates, as the job aggregates them; None where none carried values.
        reports: one a device, in device order.
        scores: of the model that was sent out, by level, pooled over devices.
        loss: mean training loss, weighted by examples.
        statistics: running statistics of each level that was trained; empty where levels share
            them, or the plan has none.
        own_masks: yields the mask of each device whose mask evolved, read again from the spool.
        norms: by level, how far the updates moved the values, in device order; empty where that is
            not asked for.
    """

    mean: Weights | None
    reports: Sequence[Report]
    scores: dict[float, Score]
    loss: float
    own_masks: Callable[[], Iterator[tuple[str, BoolArray]]]
    statistics: Mapping[float, Float32Array] = field(default_factory=dict)
    norms: Mapping[float, Sequence[Norms]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """An update that was read from the spool and checked.

    Attributes:
        update, contribution, asked: what came, and what its task was.
        read: yields so many bytes of its body from an offset on.
    """

    update: Update
    contribution: Contribution
    asked: Asked
    read: Callable[[int, int], bytes]


ReadUpdate = Callable[[str], Spooled | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the updates of a round count as.

    Attributes:
        max_examples: the most that one counts as, whatever it claims.
        clip_norm: length to which changes are shortened; None leaves them as they are.
        measured: whether it is found out how far they move the values, though none is shortened.
        evolved: whether devices changed their masks.
    """

    max_examples: int
    clip_norm: float | None = None
    measured: bool = False
    evolved: bool = False


def fold(
    plan: Plan,
    devices: Sequence[str],
    read: ReadUpdate,
    previous: Weights,
    aggregation: Aggregation,
    terms: Terms,
) -> Folded:
    """Fold the updates of `devices` in the order given.

    Args:
        plan: the model's layers.
        devices: who delivered, sorted.
        read: yields a device's update from the spool, checked; None where it is damaged.
        previous: the model before the round; a coordinate that nobody holds keeps its value.
        aggregation: makes one of them all; a new one.
        terms: what each counts as.
    """
    running = running_positions(plan)
    bounds = _bounds(devices, read, running, terms.clip_norm)
    norms: dict[float, list[Norms]] = defaultdict(list)
    reports: list[Report] = []
    scores: dict[float, Score] = defaultdict(Score)
    with_values, examples, loss_sum = 0, 0, 0.0
    for device in devices:
        found = read(device)
        if found is None:
            continue
        update, contribution = found.update, found.contribution
        counted = min(update.num_examples, terms.max_examples)
        moved = norms_of(contribution, running) if terms.measured or bounds else None
        if moved is not None:
            norms[update.level].append(moved)
        if contribution.mask is not None and contribution.weights is not None:
            aggregation.add(
                Member(
                    update=update,
                    contribution=contribution,
                    examples=counted,
                    asked=found.asked,
                    shrinkage=_shrinkage(moved, bounds),
                    read=found.read,
                )
            )
            with_values += 1
        if update.evaluation is not None:
            scores[update.level].add(update.evaluation)
        examples += counted
        loss_sum += update.loss * counted
        reports.append(
            Report(
                device=device,
                num_examples=counted,
                level=update.level,
                counts=contribution.counts,
            )
        )
    return Folded(
        mean=aggregation.result(previous) if with_values else None,
        reports=reports,
        scores=dict(scores),
        loss=loss_sum / max(1, examples),
        statistics=aggregation.statistics(),
        own_masks=lambda: _masks([one.device for one in reports] if terms.evolved else (), read),
        norms=dict(norms),
    )


def _bounds(
    devices: Sequence[str], read: ReadUpdate, running: IntArray, clip_norm: float | None
) -> Norms | None:
    """To which lengths changes are shortened; None where they are left as they are.

    Changes of running statistics are shortened to the median of their lengths: they follow the
    scale of the inputs, so that no length could be asked of the one who writes the job.
    """
    if clip_norm is None:
        return None
    found = _norms(devices, read, running) if running.size else ()
    median = statistics.median([one.statistics for one in found] or [math.inf])
    return Norms(trained=clip_norm, statistics=median)


def _shrinkage(moved: Norms | None, bounds: Norms | None) -> Shrinkage:
    if moved is None or bounds is None:
        return UNCHANGED
    return Shrinkage(
        trained=shrinkage(moved.trained, bounds.trained),
        statistics=shrinkage(moved.statistics, bounds.statistics),
    )


def _norms(devices: Sequence[str], read: ReadUpdate, running: IntArray) -> Iterator[Norms]:
    for device in devices:
        found = read(device)
        moved = norms_of(found.contribution, running) if found is not None else None
        if moved is not None:
            yield moved


def _masks(devices: Sequence[str], read: ReadUpdate) -> Iterator[tuple[str, BoolArray]]:
    for device in devices:
        found = read(device)
        if found is not None and found.contribution.mask is not None:
            yield device, found.contribution.mask
