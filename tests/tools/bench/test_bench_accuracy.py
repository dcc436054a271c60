"""The accuracy bench's arithmetic, on made-up runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.bench.accuracy import compare, measure, write_results


def summary(accuracy: dict[str, float], up: int = 0) -> dict[str, Any]:
    levels = [
        {"level": float(level), "up_bytes_per_round": up, "down_bytes_per_round": up}
        for level in accuracy
    ]
    return {"accuracy": accuracy, "levels": levels, "dense_bytes": 1_000_000}


def test_levels_are_compared_with_dense_of_the_same_seed() -> None:
    sparse = [
        summary({"0.2": 0.80, "0.05": 0.70}, 100_000),
        summary({"0.2": 0.90, "0.05": 0.84}, 100_000),
    ]
    dense = [summary({"1": 0.82}, 1_000_000), summary({"1": 0.90}, 1_000_000)]
    large, small, whole = compare("spdst", sparse, dense)
    assert (large.level, small.level, whole.level) == (0.2, 0.05, 1.0)
    assert large.accuracy == pytest.approx(0.85)
    assert large.deviation == pytest.approx(0.1 / 2**0.5)
    assert large.difference == pytest.approx(-0.01)
    assert small.difference == pytest.approx(-0.09)
    assert large.ratio == pytest.approx(10.0)
    assert whole.difference == 0.0
    assert whole.ratio == pytest.approx(1.0)


def test_one_seed_has_no_deviation() -> None:
    (level, _) = compare("spdst", [summary({"0.1": 0.5})], [summary({"1": 0.6})])
    assert (level.deviation, level.up_bytes, level.ratio) == (0.0, 0, 0.0)


def test_each_seed_is_run_with_both_methods() -> None:
    calls = []

    def run(method: str, seed: int) -> dict[str, Any]:
        calls.append((method, seed))
        return summary({"1": 0.9} if method == "dense" else {"0.2": 0.8})

    measure("spdst", [0, 1], run)
    assert calls == [("spdst", 0), ("dense", 0), ("spdst", 1), ("dense", 1)]


def test_the_results_are_written_with_what_they_were_measured_on(tmp_path: Path) -> None:
    results = compare("spdst", [summary({"0.1": 0.5})], [summary({"1": 0.6})])
    path = tmp_path / "bench" / "accuracy.json"
    write_results(path, results, {"dataset": "watch"})
    document = json.loads(path.read_text())
    assert document["dataset"] == "watch"
    assert [level["level"] for level in document["levels"]] == [0.1, 1.0]
