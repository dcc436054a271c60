"""A tiny experiment in the real simulator, from its file to its table; killed in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paper_runs import write_experiment

from fedsparse.errors import ConfigError
from tools.bench.paper.command import PaperRequest, run_paper
from tools.bench.paper.experiment import load_experiment
from tools.bench.paper.grid import grid
from tools.bench.paper.train import train_run

TINY = """
name = "tiny"
title = "Tiny"
dataset = "digits"
plan = "digits"
clients = 5
samples = 20
cohort = 3
rounds = 3
evaluate_every = 1
[training]
batch_size = 10
[method]
sense_devices = 2
sense_epochs = 2
[[splits]]
alpha = 1.0
seeds = [0]
[[cases]]
name = "dense"
method = "dense"
[[cases]]
name = "jmwst"
method = "jmwst"
levels = [0.2, 0.1]
shares = [2, 1]
settings = { r_int = 1 }
[[cases]]
name = "pdst"
method = "pdst"
density = 0.1
[[cases]]
name = "diverging"
method = "pdst"
density = 0.1
training = { learning_rate = 1e10 }
[[expectations]]
says = "a tenth is moved"
case = "pdst"
bytes_ratio_at_least = 2.0
"""


def test_an_experiment_runs_from_its_file_to_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path, TINY)
    request = PaperRequest(experiment=str(path), output=tmp_path / "out", workers=2)
    assert run_paper(request) == 1
    assert "diverging-a1-s0 failed: the training of every client failed" in capsys.readouterr().err
    document = json.loads((tmp_path / "out/tiny/table.json").read_text(encoding="utf-8"))
    rows = {(row["case"], row["level"]): row for row in document["levels"]}
    assert set(rows) == {("dense", 1.0), ("jmwst", 0.2), ("jmwst", 0.1), ("pdst", 0.1)}
    assert rows["dense", 1.0]["ratio"] == pytest.approx(8 / 3, rel=0.05)  # i8 up, f16 down
    assert rows["pdst", 0.1]["ratio"] > 4 * rows["dense", 1.0]["ratio"]
    costs = {row["case"]: row for row in document["costs"]}
    assert costs["pdst"]["mask_bytes"] < costs["jmwst"]["mask_bytes"]
    assert costs["pdst"]["compute_ratio"] > 1
    assert [one["verdict"] for one in document["verdicts"]] == ["holds"]
    assert (tmp_path / "out/tiny/consensus-a1-d0.2.svg").is_file()


def test_the_score_of_stage_1_is_not_told(tmp_path: Path) -> None:
    text = TINY.replace("evaluate_every = 1", "evaluate_every = 2")
    experiment = load_experiment(str(write_experiment(tmp_path, text)))
    run = next(one for one in grid(experiment, tmp_path / "out/tiny") if one.case == "jmwst")
    told: list[tuple[int, bool]] = []
    train_run(run, 1, lambda done, accuracy: told.append((done, accuracy is not None)))
    assert told == [(1, False), (2, True), (3, True)]
    sensed = json.loads((run.folder / "rounds.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert (sensed["stage"], set(sensed["accuracy"])) == ("sense", {"0.2", "0.1"})


def test_what_a_run_left_is_looked_at_before_it_goes_on(tmp_path: Path) -> None:
    experiment = load_experiment(str(write_experiment(tmp_path, TINY)))
    run = grid(experiment, tmp_path / "out/tiny")[0]
    run.folder.mkdir(parents=True)
    (run.folder / "rounds.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"rounds.jsonl: damaged.*remove {run.folder}"):
        train_run(run, 1, lambda done, accuracy: None)


def test_a_run_that_is_taken_up_again_tells_of_new_rounds_only(tmp_path: Path) -> None:
    experiment = load_experiment(str(write_experiment(tmp_path, TINY)))
    run = next(one for one in grid(experiment, tmp_path / "out/tiny") if one.case == "pdst")
    told: list[int] = []

    def tell(done: int, accuracy: float | None) -> None:
        assert accuracy is not None
        told.append(done)
        if told == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(run, 1, tell)
    train_run(run, 1, tell)
    assert told == [1, 2, 3]
    assert run.finished
