"""Simulations whose values travel rounded: fewer bytes, residuals, and what a resumption needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.job import MethodConfig, TrainingConfig, ValuesConfig
from tools.simulation.run import simulate
from tools.simulation.spec import RunSpec


class Killed(Exception):
    """The process ends here."""


def spec(up: str, down: str, name: str = "nst") -> RunSpec:
    return RunSpec(
        dataset="digits",
        plan="digits",
        clients=6,
        cohort=3,
        samples=48,
        method=MethodConfig(name=name, levels=(0.1,), sense_devices=2, sense_epochs=1, r_int=2),
        training=TrainingConfig(batch_size=16, learning_rate=0.1, learning_rate_end=0.05),
        values=ValuesConfig(up=up, down=down, error_feedback=True),
        rounds=5,
        evaluate_every=2,
    )


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    for one in found:
        del one["train_s"]
    return found


def test_a_simulation_that_was_killed_goes_on_with_its_residuals(tmp_path: Path) -> None:
    simulate(spec("i8", "i8"), tmp_path / "calm", data=tmp_path / "data")

    def kill(record: dict[str, Any]) -> None:
        if record["round"] == 4:
            raise Killed

    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        simulate(spec("i8", "i8"), killed, data=tmp_path / "data", snapshot_s=0.0, progress=kill)
    assert list((killed / "snapshot" / "residuals").iterdir())
    assert len(records(killed)) == 4
    simulate(spec("i8", "i8"), killed, data=tmp_path / "data")
    assert records(killed) == records(tmp_path / "calm")


def test_what_clients_lost_changes_what_they_send(tmp_path: Path) -> None:
    """Else the test above would show nothing of residuals."""
    kept = spec("i8", "f32", "pdst")
    simulate(kept, tmp_path / "kept", data=tmp_path / "data")
    values = ValuesConfig(up="i8", down="f32")
    simulate(replace(kept, values=values), tmp_path / "not", data=tmp_path / "data")
    losses = [[one["loss"] for one in records(tmp_path / name)] for name in ("kept", "not")]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0] != losses[1]


def test_a_byte_a_value_is_fewer_bytes_both_ways(tmp_path: Path) -> None:
    sums = {}
    for codec in ("f32", "i8"):
        simulate(spec(codec, codec, "pdst"), tmp_path / codec, data=tmp_path / "data")
        last = records(tmp_path / codec)[-1]
        sums[codec] = (last["up_bytes"], last["down_bytes"])
        assert last["accuracy"]["0.1"] > 0.2
    assert sums["i8"][0] < 0.4 * sums["f32"][0]
    assert sums["i8"][1] < 0.4 * sums["f32"][1]
