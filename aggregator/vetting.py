"""Which changes are out of all proportion, by what the cohort's were in the rounds before.

The bound is made of closed rounds alone: the verdict on an update depends neither on what came
before it in its round, nor on whether the aggregator was restarted meanwhile.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from aggregator.norms import Norms
from fedsparse.errors import RemoteProtocolError

ROUNDS: Final = 10  # in which a level was trained
FEWEST: Final = 8  # norms; of fewer no bound is made
# A bound is so many deviations above the median, but at least so many times the median: devices
# that hold other data differ. Running statistics do more so, since they follow the inputs.
DEVIATIONS: Final = 6.0
TIMES_MEDIAN: Final = 3.0
TIMES_MEDIAN_OF_STATISTICS: Final = 10.0
NORMAL: Final = 1.4826  # of normal numbers, the standard deviation in median absolute deviations
MOST_DOUBLINGS: Final = 100  # that leave nothing to refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class NormHistory:
    """How far the updates of closed rounds moved the values.

    Attributes:
        rounds: by level, those of the last `ROUNDS` rounds in which it was trained.
    """

    rounds: Mapping[float, Sequence[Sequence[Norms]]] = field(default_factory=dict)

    def followed_by(self, found: Mapping[float, Sequence[Norms]]) -> NormHistory:
        """With what a further round brought."""
        latest = {
            level: [*self.rounds.get(level, ()), list(norms)][-ROUNDS:]
            for level, norms in found.items()
            if norms
        }
        return NormHistory(rounds={**self.rounds, **latest})

    def bound(self, level: float) -> Norms | None:
        """How far an update at a level may move the values; None where too little is known."""
        known = list(chain.from_iterable(self.rounds.get(level, ())))
        if len(known) < FEWEST:
            return None
        return Norms(
            trained=_bound([one.trained for one in known], TIMES_MEDIAN),
            statistics=_bound([one.statistics for one in known], TIMES_MEDIAN_OF_STATISTICS),
        )

    def check(self, level: float, moved: Norms | None, repeats: int = 0) -> None:
        """Refuse a change that is out of all proportion.

        Args:
            level: at which it was trained.
            moved: how long it is; None where nothing was trained.
            repeats: how often the round ended without an update before: each time the bound is
                twice as wide, so that no bound holds up a job whose devices all move further now.

        Raises:
            RemoteProtocolError: it is; the message says by how much.
        """
        bound = self.bound(level)
        if moved is None or bound is None:
            return
        _compare("values", moved.trained, bound.trained, repeats)
        _compare("running statistics", moved.statistics, bound.statistics, repeats)

    def to_json(self) -> dict[str, Any]:
        """As plain values; floats are kept to the bit."""
        return {
            repr(level): [[[one.trained, one.statistics] for one in found] for found in rounds]
            for level, rounds in self.rounds.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NormHistory:
        """What `to_json` made; raises ValueError, TypeError or AttributeError over others."""
        return cls(
            rounds={
                float(level): [
                    [Norms(trained=float(trained), statistics=float(of)) for trained, of in found]
                    for found in rounds
                ]
                for level, rounds in data.items()
            }
        )


def _compare(name: str, length: float, bound: float, repeats: int) -> None:
    most = math.ldexp(bound, min(repeats, MOST_DOUBLINGS))
    if length > most:
        raise RemoteProtocolError(
            f"a change of the {name} of length {length:.4g}, where the cohort's lead one to "
            f"expect {most:.4g} at most"
        )


def _bound(norms: Sequence[float], times_median: float) -> float:
    """A length that few honest changes exceed; infinite where half of them are 0.

    Source: the median and the median absolute deviation stand as long as fewer than half of the
    values are an attacker's (F. R. Hampel, The Influence Curve and Its Role in Robust Estimation,
    JASA 1974).
    """
    median = statistics.median(norms)
    deviation = NORMAL * statistics.median(abs(one - median) for one in norms)
    return max(median + DEVIATIONS * deviation, times_median * median) or math.inf
