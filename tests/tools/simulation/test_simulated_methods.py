"""The newer methods among virtual clients, on both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aggregator.job import MethodConfig, TrainingConfig
from tools.simulation.run import simulate
from tools.simulation.spec import RunSpec


def rounds_of(name: str, engine: str, folder: Path) -> list[dict[str, Any]]:
    spec = RunSpec(
        dataset="digits",
        plan="digits",
        clients=4,
        cohort=2,
        samples=48,
        method=MethodConfig(name=name, levels=(0.2, 0.1), sense_devices=2),
        training=TrainingConfig(
            batch_size=16, learning_rate=0.1, learning_rate_end=0.05, momentum=0.5
        ),
        shares=(1, 1),
        rounds=3,
        evaluate_every=3,
        engine=engine,
    )
    simulate(spec, folder / engine, data=folder / "data")
    lines = (folder / engine / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["ssfl", "sparsyfed"])
def test_both_engines_take_a_method_the_same_way(tmp_path: Path, name: str) -> None:
    sparse, torch = (rounds_of(name, engine, tmp_path) for engine in ("sparse", "torch"))
    for one, other in zip(sparse, torch, strict=True):
        assert one["stage"] == other["stage"]
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
        assert one["mask_changed"] == other["mask_changed"]
    assert set(sparse[-1]["accuracy"]) == {"0.2", "0.1"}
    if name == "ssfl":
        assert [one["stage"] for one in sparse] == ["sense", "train", "train", "train"]
        assert [one["mask_changed"] for one in sparse] == [True, False, False, False]
        dense_bytes = min(client["down_bytes"] for client in sparse[0]["clients"])
        assert dense_bytes > 3 * max(client["down_bytes"] for client in sparse[2]["clients"])
    else:
        assert [one["mask_changed"] for one in sparse] == [True, True, False]


def test_an_engine_with_a_second_softmax_descends_more_slowly(tmp_path: Path) -> None:
    plain, twice = (rounds_of("spdst", engine, tmp_path) for engine in ("torch", "torch_softmax"))
    assert twice[-1]["loss"] > 1.4  # of ten classes it cannot come below log(e + 9) - 1
    assert plain[-1]["loss"] < twice[-1]["loss"]
