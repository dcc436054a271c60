"""Experiments and finished runs made up for the tests of their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.paper.experiment import Experiment, load_experiment
from tools.bench.paper.records import Record

DENSE_BYTES = 4_000
EXPERIMENT = """
name = "tiny"
title = "Tiny"
dataset = "digits"
plan = "digits"
clients = 6
cohort = 2
rounds = 4
evaluate_every = 2
[training]
batch_size = 16
[method]
sense_devices = 2
[[splits]]
alpha = 1000.0
seeds = [0, 1]
[[splits]]
alpha = 0.1
seeds = [0]
[[cases]]
name = "dense"
method = "dense"
training = { learning_rate = 0.05 }
[[cases]]
name = "spdst"
method = "spdst"
density = 0.05
[[cases]]
name = "jmwst"
method = "jmwst"
levels = [0.2, 0.1]
shares = [1, 1]
settings = { r_int = 2 }
alphas = [1000]
seeds = [0]
[[expectations]]
says = "spdst is near dense"
case = "spdst"
against = "dense"
at_least = -1.0
"""


def write_experiment(folder: Path, text: str = EXPERIMENT) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tiny(folder: Path, text: str = EXPERIMENT) -> Experiment:
    return load_experiment(str(write_experiment(folder, text)))


def client(level: float, up: int, down: int, *, masks: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    return {
        "client": "client-000",
        "level": level,
        "up_bytes": up + masks[0],
        "down_bytes": down + masks[1],
        "up_mask_bytes": masks[0],
        "down_mask_bytes": masks[1],
        "examples": 10,
    }


def closed_round(
    number: int,
    clients: Sequence[Mapping[str, Any]],
    *,
    stage: str = "train",
    accuracy: Mapping[str, float] | None = None,
    multiply_adds: int = 100,
    consensus: Mapping[str, list[Any]] | None = None,
) -> dict[str, Any]:
    keys = ("up_bytes", "down_bytes", "up_mask_bytes", "down_mask_bytes")
    return {
        "round": number,
        "stage": stage,
        "loss": 1.0,
        "accuracy": dict(accuracy or {}),
        "test_loss": {},
        **{key: sum(one[key] for one in clients) for key in keys},
        "clients": list(clients),
        "multiply_adds": multiply_adds,
        "mask_changed": False,
        "consensus": consensus,
        "train_s": 0.5,
    }


def evolved(first: float, second: float) -> dict[str, list[Any]]:
    """The consensus of a round, of two tensors of which clients keep three times more and less."""
    return {"clients": [first, second], "server": [0.5, 0.5], "kept": [30, 10]}


def record(
    case: str,
    accuracy: Mapping[str, float],
    rounds: Sequence[Mapping[str, Any]],
    *,
    alpha: float = 1000.0,
    seed: int = 0,
) -> Record:
    result = {
        "accuracy": dict(accuracy),
        "rounds": sum(one["stage"] == "train" for one in rounds),
        "dense_bytes": DENSE_BYTES,
        "layers": ["conv.weight", "fc.weight"],
        "kept": {level: [30, 10] for level in accuracy},
    }
    return Record(case=case, alpha=alpha, seed=seed, rounds=tuple(rounds), result=result)


def plain(case: str, level: float, score: float, *, alpha: float = 1000.0, seed: int = 0) -> Record:
    """Two training rounds of one client, 10 times fewer bytes than dense for a sparse level."""
    size = DENSE_BYTES if level == 1 else DENSE_BYTES // 10
    adds = 1000 if level == 1 else 100
    rounds = [
        closed_round(
            number,
            [client(level, size, size)],
            accuracy={f"{level:g}": score * number / 2},
            multiply_adds=adds,
        )
        for number in (1, 2)
    ]
    return record(case, {f"{level:g}": score}, rounds, alpha=alpha, seed=seed)


def write_record(folder: Path, run: Record) -> None:
    """A run's files, as a finished one leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(one) + "\n" for one in run.rounds)
    (folder / "rounds.jsonl").write_text(lines, encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(run.result), encoding="utf-8")
