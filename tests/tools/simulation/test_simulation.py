"""Simulations of the digits: the same result whatever happens to them."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.job import MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.errors import ConfigError, EngineError, FedSparseError
from fedsparse.sparsity.densities import uniform_counts
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask
from fedsparse.sparsity.packing import mask_digest, pack
from fedsparse.sparsity.values import encode_values
from fedsparse.types import Weights
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Part, Stage, Task
from tools.simulation.data import open_split
from tools.simulation.run import simulate
from tools.simulation.spec import RunSpec, SimulationError, claim
from tools.simulation.worker import TrainOrder, Worker

SPEC = RunSpec(
    dataset="digits",
    plan="digits",
    clients=12,
    cohort=5,
    samples=40,
    method=MethodConfig(name="jmwst", levels=(0.2, 0.1), sense_devices=2, sense_epochs=1, r_int=2),
    training=TrainingConfig(batch_size=16, learning_rate=0.1, learning_rate_end=0.05),
    values=ValuesConfig(up="f32", down="f32"),
    shares=(3, 2),
    rounds=6,
    evaluate_every=3,
)
PROGRAM = """
import os, pickle, signal, sys
from pathlib import Path
from tools.simulation.run import simulate
spec, folder, data, last = pickle.loads(bytes.fromhex(sys.argv[1]))
def die(record):
    if record["round"] == last:
        os.kill(os.getpid(), signal.SIGKILL)
simulate(spec, Path(folder), data=Path(data), snapshot_s=0.0, progress=die)
"""


def records(folder: Path) -> list[dict[str, Any]]:
    """All but the seconds."""
    lines = (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [{key: value for key, value in one.items() if key != "train_s"} for one in found]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the split, and an undisturbed run in `calm`."""
    folder = tmp_path_factory.mktemp("simulation")
    simulate(SPEC, folder / "calm", data=folder / "data")
    return folder


def test_a_run_leaves_a_record_of_each_round_and_a_result(calm: Path) -> None:
    found = records(calm / "calm")
    assert [one["round"] for one in found] == list(range(7))
    assert [one["stage"] for one in found] == ["sense", *["train"] * 6]
    assert [one["round"] for one in found if one["accuracy"]] == [0, 3, 6]
    for one in found[1:]:
        assert len(one["clients"]) == 5
        assert one["up_bytes"] > one["up_mask_bytes"] + 4 * 5 * 0.1 * 100_000
        assert one["multiply_adds"] > 0
        evolved = [c for c in one["clients"] if c["level"] == 0.2 and c["up_mask_bytes"]]
        assert (one["consensus"] is not None) == bool(evolved)
    assert any(one["consensus"] for one in found)
    assert {client["level"] for one in found[1:] for client in one["clients"]} == {0.2, 0.1}
    result = json.loads((calm / "calm" / "result.json").read_text(encoding="utf-8"))
    assert result["accuracy"] == found[-1]["accuracy"]
    assert result["dense_bytes"] == 4 * (result["num_prunable"] + result["num_dense"])
    assert not (calm / "calm" / "snapshot").exists()


def test_any_number_of_workers_gives_the_same_bits(calm: Path, tmp_path: Path) -> None:
    simulate(SPEC, tmp_path, data=calm / "data", workers=2)
    assert records(tmp_path) == records(calm / "calm")
    digests = [
        json.loads((folder / "result.json").read_text(encoding="utf-8"))["model_digest"]
        for folder in (tmp_path, calm / "calm")
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["jmwst", "nst"])
def test_a_killed_run_goes_on_to_the_same_bits(calm: Path, tmp_path: Path, name: str) -> None:
    spec = replace(SPEC, method=replace(SPEC.method, name=name))
    calmly = simulate(spec, tmp_path / "calm", data=calm / "data")
    killed = tmp_path / "killed"
    for last in (2, 5):
        told = pickle.dumps((spec, str(killed), str(calm / "data"), last)).hex()
        done = subprocess.run([sys.executable, "-c", PROGRAM, told], check=False)
        assert done.returncode == -signal.SIGKILL
        # What a kill may cut short: the line of a record.
        with (killed / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"round":')
    resumed = simulate(spec, killed, data=calm / "data")
    assert records(killed) == records(tmp_path / "calm")
    assert resumed["model_digest"] == calmly["model_digest"]
    assert resumed["wall_s"] > 0


def test_a_finished_run_is_not_run_again(calm: Path) -> None:
    before = (calm / "calm" / "rounds.jsonl").stat().st_mtime_ns
    simulate(SPEC, calm / "calm", data=calm / "nowhere")
    assert (calm / "calm" / "rounds.jsonl").stat().st_mtime_ns == before


def test_the_folder_of_another_run_is_refused_and_left_alone(calm: Path) -> None:
    other = replace(SPEC, seed=1, method=replace(SPEC.method, r_int=3))
    before = {path: path.read_bytes() for path in (calm / "calm").iterdir()}
    with pytest.raises(ConfigError, match=r"another run \(method.r_int is 2, not 3; seed is 0"):
        simulate(other, calm / "calm", data=calm / "data")
    assert {path: path.read_bytes() for path in (calm / "calm").iterdir()} == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="no simulation wrote"):
        claim(tmp_path, SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("dense", (1.0,)),
        ("nst", (0.2,)),
        ("pdst", (0.2, 0.1)),
        ("spdst", (0.2, 0.1)),
        ("ssfl", (0.2,)),
        ("sparsyfed", (0.2,)),
    ],
)
def test_every_method_learns(
    calm: Path, tmp_path: Path, name: str, levels: tuple[float, ...]
) -> None:
    spec = replace(
        SPEC,
        method=replace(SPEC.method, name=name, levels=levels),
        shares=(1,) * len(levels),
        training=replace(SPEC.training, epochs=3),
    )
    result = simulate(spec, tmp_path, data=calm / "data")
    assert set(result["accuracy"]) == {f"{level:g}" for level in levels}
    assert min(result["accuracy"].values()) > 0.2  # a guess is right in one of ten
    assert [one["failures"] for one in records(tmp_path)] == [[]] * len(records(tmp_path))


def test_clients_that_hold_less_pay_less(calm: Path) -> None:
    paid: dict[float, list[int]] = {}
    for one in records(calm / "calm"):
        for client in one["clients"]:
            if one["stage"] == "train" and not client["up_mask_bytes"]:  # no mask evolves
                paid.setdefault(client["level"], []).append(client["up_bytes"])
    assert max(paid[0.1]) < 0.6 * min(paid[0.2])


def test_training_that_fails_everywhere_ends_the_run_with_the_reason(
    calm: Path, tmp_path: Path
) -> None:
    training = replace(SPEC.training, learning_rate=1e9, learning_rate_end=1e9)
    with pytest.raises(SimulationError, match=r"of every client failed: .*learning rate"):
        simulate(replace(SPEC, training=training), tmp_path, data=calm / "data")


def test_torch_and_the_kernels_go_the_same_way(calm: Path, tmp_path: Path) -> None:
    """A few steps: later, rounding has its own ways."""
    spec = replace(
        SPEC, method=replace(SPEC.method, name="pdst"), rounds=2, evaluate_every=1, cohort=2
    )
    for engine in ("sparse", "torch"):
        simulate(replace(spec, engine=engine), tmp_path / engine, data=calm / "data")
    ours, theirs = records(tmp_path / "sparse"), records(tmp_path / "torch")
    assert len(ours) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["multiply_adds"] == b["multiply_adds"]
        assert a["up_bytes"] == pytest.approx(b["up_bytes"], abs=40)  # a number in a header


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cohort": 13}, "cohort of 13 of 12"),
        ({"shares": (1,)}, "shares"),
        ({"shares": (1, 0)}, "shares"),
        ({"shares": (1, 99)}, r"of 12 clients leave none for the level 0\.2"),
        ({"engine": "jax"}, "engine 'jax'"),
        ({"rounds": 0}, "at least 1"),
        ({"dataset": "minst"}, "did you mean 'mnist'"),
    ],
)
def test_an_impossible_run_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FedSparseError, match=complaint):
        replace(SPEC, **changes)


def test_updates_that_are_all_refused_end_the_run_with_the_reason(
    calm: Path, tmp_path: Path
) -> None:
    """One step a client, so far that weights are finite and beyond what the gateway takes."""
    spec = replace(
        SPEC,
        method=replace(SPEC.method, name="pdst"),
        training=replace(SPEC.training, batch_size=64, learning_rate=1e9, learning_rate_end=1e9),
    )
    with pytest.raises(SimulationError, match=r"no update was accepted, 3 times: .*diverged"):
        simulate(spec, tmp_path, data=calm / "data")


def test_consensus_is_of_the_masks_of_the_largest_level_alone(calm: Path, tmp_path: Path) -> None:
    result = simulate(SPEC, tmp_path, data=calm / "data")
    largest = sum(result["kept"]["0.2"])
    measured = [one for one in records(tmp_path) if one["consensus"] is not None]
    assert measured
    for one in measured:
        masks = [c for c in one["clients"] if c["level"] == 0.2]
        assert len(masks) < len(one["clients"])  # levels in turn
        assert sum(one["consensus"]["kept"]) == len(masks) * largest


def test_an_engine_whose_training_failed_is_not_taken_again(calm: Path) -> None:
    """Its mask may have moved before: the next client would train other positions."""
    data = open_split(SPEC, calm / "data")
    plan, rng = SPEC.load_plan(), np.random.default_rng(0)
    counts = uniform_counts(plan, 0.1)
    mask, weights = random_mask(plan, counts, rng), initial_weights(plan, counts, rng)
    values = encode_values(
        Weights(prunable=weights.prunable[mask], dense=weights.dense), "f32", counts
    )

    def order(learning_rate: float) -> TrainOrder:
        task = Task(
            job="j", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=plan.digest,
            parts=(Part(name="values", codec="f32", size=len(values)),), level=0.1,
            mask_digest=mask_digest(plan.digest, mask), learning_rate=learning_rate,
            batch_size=8, evolve=True, prune_rate=0.3,
        )  # fmt: skip
        frame = encode_message(task, values)
        return TrainOrder(
            frame=frame, mask=pack(mask), samples=data.clients[0], residual=calm, masks=calm
        )

    used = Worker(plan, "sparse")
    with pytest.raises(EngineError, match="diverged"):
        used.train(order(30.0))
    again, fresh = used.train(order(0.1)), Worker(plan, "sparse").train(order(0.1))
    assert (again.frame, again.mask) == (fresh.frame, fresh.mask)
