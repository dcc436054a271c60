"""What sparsity costs in accuracy: the demo's job, sparse with levels against dense, by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tools.bench.document import write_document

Summary = Mapping[str, Any]
Runner = Callable[[str, int], Summary]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """One density level over all seeds.

    Attributes:
        method, level: what was trained; dense has the level 1.
        accuracy, deviation: mean and sample standard deviation over the seeds (0 for one seed).
        difference: mean over the seeds of (accuracy - dense accuracy of the same seed).
        up_bytes, down_bytes: of one device in a round without a mask change, mean.
        ratio: dense float32 bytes / the mean of up and down bytes; 0 where no device has the level.
    """

    method: str
    level: float
    accuracy: float
    deviation: float
    difference: float
    up_bytes: int
    down_bytes: int
    ratio: float


def measure(method: str, seeds: Sequence[int], run: Runner) -> tuple[LevelResult, ...]:
    """Train `method` and dense for each seed and compare.

    Args:
        method: a sparse method.
        seeds: one pair of runs each.
        run: `(method, seed)` to the run's summary.
    """
    sparse, dense = [], []
    for seed in seeds:
        sparse.append(run(method, seed))
        dense.append(run("dense", seed))
    return compare(method, sparse, dense)


def compare(
    method: str, sparse: Sequence[Summary], dense: Sequence[Summary]
) -> tuple[LevelResult, ...]:
    """The levels of the sparse runs, and dense last; both sequences follow the same seeds."""
    baseline = [_accuracy(one, 1.0) for one in dense]
    levels = [float(level) for level in sparse[0]["accuracy"]]
    results = [_result(method, level, sparse, baseline) for level in levels]
    return (*results, _result("dense", 1.0, dense, baseline))


def write_results(path: Path, results: Sequence[LevelResult], facts: Mapping[str, Any]) -> None:
    """Write the results, with what they were measured on, as JSON."""
    write_document(path, {**facts, "levels": [asdict(one) for one in results]})


def _result(
    method: str, level: float, runs: Sequence[Summary], baseline: Sequence[float]
) -> LevelResult:
    found = [_accuracy(one, level) for one in runs]
    up = round(mean(_bytes(one, level, "up_bytes_per_round") for one in runs))
    down = round(mean(_bytes(one, level, "down_bytes_per_round") for one in runs))
    return LevelResult(
        method=method,
        level=level,
        accuracy=mean(found),
        deviation=stdev(found) if len(found) > 1 else 0.0,
        difference=mean(a - b for a, b in zip(found, baseline, strict=True)),
        up_bytes=up,
        down_bytes=down,
        ratio=2 * runs[0]["dense_bytes"] / (up + down) if up + down else 0.0,
    )


def _accuracy(summary: Summary, level: float) -> float:
    by_level = {float(key): float(value) for key, value in summary["accuracy"].items()}
    return by_level[level]


def _bytes(summary: Summary, level: float, key: str) -> int:
    return next((int(one[key]) for one in summary["levels"] if one["level"] == level), 0)
