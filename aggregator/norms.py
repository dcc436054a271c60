"""How far an update moved the values that its device was sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aggregator.updates import Contribution
from fedsparse.methods.clipping import change_norm
from fedsparse.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """Euclidean lengths of a change.

    Attributes:
        trained: of all that is trained: kept values, biases, normalisation.
        statistics: of the running statistics, which follow the inputs and know no step size.
    """

    trained: float
    statistics: float


def norms_of(contribution: Contribution, running: IntArray) -> Norms | None:
    """Of an update; None where it trained nothing.

    Args:
        contribution: what came.
        running: where running statistics lie among its dense values, `(num_running,)`.
    """
    before, after = contribution.before, contribution.weights
    if before is None or after is None:
        return None
    kept = change_norm(before.prunable, after.prunable)
    statistics = change_norm(before.dense[running], after.dense[running])
    trained = np.delete(before.dense, running), np.delete(after.dense, running)
    return Norms(trained=math.hypot(kept, change_norm(*trained)), statistics=statistics)
