"""The trimmed mean of a round, from its spool.

It needs all values of a weight at once. They are read from the spool in blocks of weights, so that
a large cohort takes no more memory than a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

import numpy as np

from aggregator.aggregation import Member
from aggregator.pieces import DensePieces, MasksOnDisk, PrunablePieces
from fedsparse.methods.statistics import running_positions
from fedsparse.methods.trimmed_mean import Client, trimmed_mean
from fedsparse.plan import Plan
from fedsparse.sparsity.values import ValuesReader
from fedsparse.types import Float32Array, Weights
from fedsparse.wire.messages import Part


class TrimmedMean:
    """The trimmed mean: memory of a block and a few models, whatever the cohort.

    Args:
        plan: whose values come.
        before: the model that devices were sent, at each level.
        trim: share of the holders of a weight that is left out at each end.
        masks: open and empty.
        level_statistics: whether each level has running statistics of its own.
    """

    def __init__(
        self,
        plan: Plan,
        before: Callable[[float], Weights],
        trim: float,
        masks: MasksOnDisk,
        *,
        level_statistics: bool,
    ) -> None:
        self._plan = plan
        self._before = before
        self._trim = trim
        self._by_level = level_statistics
        self._masks = masks
        self._running = running_positions(plan)
        self._is_running = np.zeros(plan.num_dense, np.bool_)
        self._is_running[self._running] = True
        self._models: dict[float, Weights] = {}
        self._prunable: list[Client] = []
        self._dense: dict[float, list[Client]] = {}

    def add(self, member: Member) -> None:
        """See `Aggregation`; what the update holds is read again for the result."""
        update, contribution = member.update, member.contribution
        if contribution.mask is None:
            return
        part, values = _values_of(member)
        mask, asked = contribution.mask, member.asked
        self._masks.add(update.mask_digest, lambda: mask)
        self._masks.add(asked.mask_digest, asked.mask)
        before = self._model_at(update.level)
        self._prunable.append(
            PrunablePieces(
                masks=self._masks,
                under=update.mask_digest,
                given=asked.mask_digest,
                values=values,
                before=before.prunable,
                is_change=bool(part.base),
                factor=member.shrinkage.trained,
            )
        )
        if contribution.before is None:
            return  # saliency has no dense values
        self._dense.setdefault(update.level, []).append(
            DensePieces(
                values=values,
                before=before.dense,
                shrinkage=member.shrinkage,
                is_running=self._is_running,
            )
        )

    def result(self, previous: Weights) -> Weights:
        """See `Aggregation`."""
        dense = list(chain.from_iterable(self._dense.values()))
        return Weights(
            prunable=trimmed_mean(self._prunable, previous.prunable, self._trim),
            dense=trimmed_mean(dense, previous.dense, self._trim),
        )

    def statistics(self) -> Mapping[float, Float32Array]:
        """See `Aggregation`."""
        if not self._by_level or self._running.size == 0:
            return {}
        return {
            level: trimmed_mean(clients, self._model_at(level).dense, self._trim)[self._running]
            for level, clients in self._dense.items()
        }

    def _model_at(self, level: float) -> Weights:
        if level not in self._models:
            self._models[level] = self._before(level)
        return self._models[level]


def _values_of(member: Member) -> tuple[Part, ValuesReader]:
    """The part of an update that has its values, to be read in pieces."""
    offset = 0
    for part in member.update.parts:
        if part.name == "values":
            break
        offset += part.size
    counts = member.contribution.counts
    return part, ValuesReader(part.codec, counts, lambda at, size: member.read(offset + at, size))
