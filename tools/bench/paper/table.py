"""From finished runs to the rows of a table: accuracy by level, and what a case costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from tools.bench.paper.case import Case
from tools.bench.paper.experiment import Experiment
from tools.bench.paper.records import Record, chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRow:
    """One level of a case at one alpha, over its finished seeds.

    Attributes:
        seeds: which are finished.
        accuracy, deviation: at the end, in percent; mean and sample deviation (0 for one seed).
        to_dense: mean difference to dense in points, over the seeds that both have; or None.
        up_bytes, down_bytes: of one client in a training round without a mask; or None.
        up_ratio, down_ratio, ratio: dense float32 bytes over them: each way, and both ways.
    """

    alpha: float
    case: str
    level: float
    seeds: tuple[int, ...]
    accuracy: float
    deviation: float
    to_dense: float | None
    up_bytes: float | None
    down_bytes: float | None
    up_ratio: float | None
    down_ratio: float | None
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What a case costs at one alpha: means over its finished seeds, of the whole job.

    Attributes:
        job_bytes: of all clients, both ways, with masks and stage 1.
        job_ratio: dense float32 bytes of the training rounds over them.
        mask_bytes: the part that encodes masks.
        mask_bytes_a_client_round: the same, amortised over the clients' training rounds.
        multiply_adds: of all clients, stage 1 included.
        compute_ratio: dense multiply-adds of as many training rounds over them, over the seeds that
            both have; or None.
        train_s: process seconds of the clients' training loops.
    """

    alpha: float
    case: str
    seeds: tuple[int, ...]
    job_bytes: float
    job_ratio: float
    mask_bytes: float
    mask_bytes_a_client_round: float
    multiply_adds: float
    compute_ratio: float | None
    train_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """All rows, in the order of the experiment's splits and cases."""

    levels: tuple[LevelRow, ...]
    costs: tuple[CostRow, ...]


def make_table(experiment: Experiment, records: Sequence[Record]) -> ResultTable:
    """The rows of every case that has a finished run."""
    levels: list[LevelRow] = []
    costs: list[CostRow] = []
    for alpha in (split.alpha for split in experiment.splits):
        dense = _dense(experiment, records, alpha)
        for case in experiment.cases:
            runs = chosen(records, case.name, alpha)
            if not runs:
                continue
            rows = (_level_row(case, level, runs, dense) for level in case.densities)
            levels += [row for row in rows if row is not None]
            costs.append(_cost_row(case, runs, dense))
    return ResultTable(levels=tuple(levels), costs=tuple(costs))


def differences(
    one: Mapping[int, Record], level: float, other: Mapping[int, Record], other_level: float
) -> list[float]:
    """Accuracy of `one` minus that of `other` in points, for every seed that both have."""
    pairs = [(one[s].accuracy(level), other[s].accuracy(other_level)) for s in one if s in other]
    return [100 * (a - b) for a, b in pairs if a is not None and b is not None]


def _dense(experiment: Experiment, records: Sequence[Record], alpha: float) -> dict[int, Record]:
    name = next((case.name for case in experiment.cases if case.method == "dense"), "")
    return chosen(records, name, alpha)


def _level_row(
    case: Case, level: float, runs: Mapping[int, Record], dense: Mapping[int, Record]
) -> LevelRow | None:
    scores = [run.accuracy(level) for run in runs.values()]
    known = [100 * score for score in scores if score is not None]
    if not known:
        return None
    record = next(iter(runs.values()))
    exchanges = [found for run in runs.values() if (found := run.exchange(level)) is not None]
    up = _mean(up for up, _ in exchanges)
    down = _mean(down for _, down in exchanges)
    dense_bytes = float(record.result["dense_bytes"])
    return LevelRow(
        alpha=record.alpha,
        case=case.name,
        level=level,
        seeds=tuple(sorted(runs)),
        accuracy=mean(known),
        deviation=stdev(known) if len(known) > 1 else 0.0,
        to_dense=_mean(differences(runs, level, dense, 1.0)),
        up_bytes=up,
        down_bytes=down,
        up_ratio=dense_bytes / up if up else None,
        down_ratio=dense_bytes / down if down else None,
        ratio=2 * dense_bytes / (up + down) if up and down else None,
    )


def _cost_row(case: Case, runs: Mapping[int, Record], dense: Mapping[int, Record]) -> CostRow:
    records = list(runs.values())
    masks = [run.total("up_mask_bytes") + run.total("down_mask_bytes") for run in records]
    rounds = [sum(len(one["clients"]) for one in run.training) for run in records]
    return CostRow(
        alpha=records[0].alpha,
        case=case.name,
        seeds=tuple(sorted(runs)),
        job_bytes=mean(run.total("up_bytes") + run.total("down_bytes") for run in records),
        job_ratio=mean(run.job_ratio for run in records),
        mask_bytes=mean(masks),
        mask_bytes_a_client_round=sum(masks) / max(1, sum(rounds)),
        multiply_adds=mean(run.total("multiply_adds") for run in records),
        compute_ratio=_mean(
            _compute_ratio(run, dense[seed]) for seed, run in runs.items() if seed in dense
        ),
        train_s=mean(run.total("train_s") for run in records),
    )


def _compute_ratio(run: Record, dense: Record) -> float:
    """Against as many training rounds of dense, as with bytes: a case may have its own number."""
    a_round = dense.total("multiply_adds") / len(dense.training)
    return a_round * len(run.training) / run.total("multiply_adds")


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return mean(found) if found else None
