"""What was expected, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from tools.bench.paper.case import Expectation
from tools.bench.paper.experiment import Experiment
from tools.bench.paper.records import Record, chosen
from tools.bench.paper.table import differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One limit of an expectation at one alpha.

    Attributes:
        says: the claim.
        limit: in words, such as `at least -0.8 points to dense`.
        figure: what came out, in the limit's unit; None = not run yet.
        runs: how many seeds it is a mean of.
        holds: whether the figure is within the limit; None = not run yet.
    """

    alpha: float
    says: str
    limit: str
    figure: float | None
    runs: int
    holds: bool | None

    @property
    def word(self) -> str:
        """The verdict in words."""
        if self.holds is None:
            return "not run yet"
        return "holds" if self.holds else "does not hold"


def judge(experiment: Experiment, records: Sequence[Record]) -> tuple[Verdict, ...]:
    """Every limit of every expectation, at each of its alphas, in the order of the file."""
    return tuple(
        verdict
        for expectation in experiment.expectations
        for alpha in _alphas(experiment, expectation)
        for verdict in _verdicts(experiment, expectation, alpha, records)
    )


def _alphas(experiment: Experiment, expectation: Expectation) -> list[float]:
    """Where both cases are run, and the expectation asks for it."""
    names = [expectation.case, *([expectation.against] if expectation.against else [])]
    wanted = [set(experiment.case(name).alphas) for name in names] + [set(expectation.alphas)]
    alphas = [split.alpha for split in experiment.splits]
    return [alpha for alpha in alphas if all(not some or alpha in some for some in wanted)]


def _verdicts(
    experiment: Experiment, expectation: Expectation, alpha: float, records: Sequence[Record]
) -> list[Verdict]:
    case = experiment.case(expectation.case)
    level = expectation.level or case.densities[0]
    runs = chosen(records, case.name, alpha)
    points = _points(experiment, expectation, level, alpha, records)
    exchanged = [
        2 * float(run.result["dense_bytes"]) / sum(found)
        for run in runs.values()
        if (found := run.exchange(level)) is not None
    ]
    job = [run.job_ratio for run in runs.values()]
    against = f"points to {expectation.against}"
    limits = (
        (expectation.at_least, "at least", against, points),
        (expectation.at_most, "at most", against, points),
        (expectation.bytes_ratio_at_least, "at least", "x fewer bytes, no mask", exchanged),
        (expectation.job_ratio_at_least, "at least", "x fewer bytes of the job", job),
    )
    return [
        _verdict(expectation.says, alpha, words, unit, limit, figures)
        for limit, words, unit, figures in limits
        if limit is not None
    ]


def _points(
    experiment: Experiment,
    expectation: Expectation,
    level: float,
    alpha: float,
    records: Sequence[Record],
) -> list[float]:
    if not expectation.against:
        return []
    others = experiment.case(expectation.against).densities
    return differences(
        chosen(records, expectation.case, alpha),
        level,
        chosen(records, expectation.against, alpha),
        level if level in others else others[0],
    )


def _verdict(
    says: str, alpha: float, words: str, unit: str, limit: float, figures: Sequence[float]
) -> Verdict:
    figure = mean(figures) if figures else None
    holds = None
    if figure is not None:
        holds = figure >= limit if words == "at least" else figure <= limit
    return Verdict(
        alpha=alpha,
        says=says,
        limit=f"{words} {limit:g} {unit}",
        figure=figure,
        runs=len(figures),
        holds=holds,
    )
