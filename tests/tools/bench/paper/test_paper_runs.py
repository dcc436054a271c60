"""Running a grid: what is missing is run, a failure costs no other run, nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import paper_trainers
import pytest
from paper_runs import EXPERIMENT, tiny, write_experiment

from fedsparse.errors import ConfigError, DataError
from tools.bench.paper.command import PaperRequest, run_paper
from tools.bench.paper.grid import grid
from tools.bench.paper.runner import Train

ONE_ALPHA = EXPERIMENT.replace("[[splits]]\nalpha = 0.1\nseeds = [0]\n", "")
ONE_SEED = ONE_ALPHA.replace("seeds = [0, 1]", "seeds = [0]")
NAMES = ("dense-a1000-s0", "spdst-a1000-s0", "jmwst-a1000-s0", "dense-a1000-s1", "spdst-a1000-s1")


def run(
    tmp_path: Path,
    train: Train = paper_trainers.finish,
    *,
    text: str = ONE_ALPHA,
    only: tuple[str, ...] = (),
    workers: int = 2,
    report_only: bool = False,
) -> int:
    request = PaperRequest(
        experiment=str(write_experiment(tmp_path, text)),
        output=tmp_path / "out",
        workers=workers,
        only=only,
        report_only=report_only,
    )
    return run_paper(request, train)


def starts(tmp_path: Path) -> dict[str, list[int]]:
    """For each run that was ever begun: the workers of each start."""
    files = sorted((tmp_path / "out/tiny/runs").glob("*/starts"))
    return {file.parent.name: [int(one) for one in file.read_text().split()] for file in files}


def verdicts(tmp_path: Path) -> list[str]:
    document = json.loads((tmp_path / "out/tiny/table.json").read_text(encoding="utf-8"))
    return [one["verdict"] for one in document["verdicts"]]


def test_a_grid_is_alphas_seeds_and_cases_less_what_a_case_leaves_out(tmp_path: Path) -> None:
    runs = grid(tiny(tmp_path), tmp_path)
    assert [one.name for one in runs] == [*NAMES, "dense-a0.1-s0", "spdst-a0.1-s0"]
    assert runs[2].folder == tmp_path / "runs" / "jmwst-a1000-s0"
    spec = runs[2].spec
    assert (spec.method.levels, spec.shares, spec.rounds) == ((0.2, 0.1), (1, 1), 4)


def test_what_is_missing_is_run_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, only=("dense",)) == 0
    assert list(starts(tmp_path)) == ["dense-a1000-s0", "dense-a1000-s1"]
    assert verdicts(tmp_path) == ["not run yet"]
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert {name: len(found) for name, found in starts(tmp_path).items()} == dict.fromkeys(NAMES, 1)
    assert verdicts(tmp_path) == ["does not hold"]
    shown = capsys.readouterr()
    assert "| 1000 | spdst | 0.05 | 88.00 ± 0.00 % | 2 | -2.00 |" in shown.out
    assert re.search(r"jmwst-a1000-s0: done; [345] of 5 runs", shown.err)
    assert "round 4 of 4, 50.0 %" in shown.err
    assert (tmp_path / "out/tiny/accuracy-a1000.svg").is_file()


def test_a_seed_and_a_case_may_be_added_later(tmp_path: Path) -> None:
    assert run(tmp_path, text=ONE_SEED, only=("dense",)) == 0
    assert run(tmp_path, only=("dense",)) == 0
    assert starts(tmp_path) == {"dense-a1000-s0": [2], "dense-a1000-s1": [2]}


def test_a_run_that_fails_costs_no_other_and_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in NAMES if name.endswith("s0")]
    assert run(tmp_path, paper_trainers.diverge_once, text=ONE_SEED) == 1
    shown = capsys.readouterr().err
    assert "spdst-a1000-s0 failed: training diverged in round 3: the loss is nan" in shown
    assert sorted(starts(tmp_path)) == sorted(name for name in names if "spdst" not in name)
    assert run(tmp_path, paper_trainers.diverge_once, text=ONE_SEED) == 0
    assert {name: len(found) for name, found in starts(tmp_path).items()} == dict.fromkeys(names, 1)


def test_a_process_that_is_killed_is_a_failure_like_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, paper_trainers.die, text=ONE_SEED, only=("dense", "spdst")) == 1
    assert "dense-a1000-s0 failed: was killed; if memory ran out" in capsys.readouterr().err
    assert list(starts(tmp_path)) == ["spdst-a1000-s0"]


def test_runs_go_side_by_side_and_divide_the_workers(tmp_path: Path) -> None:
    """A pipe lets neither run end before both have opened it."""
    assert run(tmp_path, text=ONE_SEED, report_only=True) == 0
    os.mkfifo(tmp_path / "out/tiny/meeting")
    assert (
        run(tmp_path, paper_trainers.meet, text=ONE_SEED, only=("dense", "spdst"), workers=5) == 0
    )
    assert starts(tmp_path) == {"dense-a1000-s0": [2], "spdst-a1000-s0": [2]}
    assert run(tmp_path, text=ONE_SEED, workers=5) == 0
    assert starts(tmp_path)["jmwst-a1000-s0"] == [5]


def test_a_report_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, report_only=True) == 0
    assert not starts(tmp_path)
    assert "No run is finished yet." in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_ends_its_runs(tmp_path: Path, number: signal.Signals) -> None:
    experiment = write_experiment(tmp_path)
    assert run(tmp_path, text=EXPERIMENT, report_only=True) == 0
    pipe = tmp_path / "out/tiny/pids"
    os.mkfifo(pipe)
    places = f"Path({str(experiment)!r}), Path({str(tmp_path / 'out')!r})"
    code = (
        "import sys; from pathlib import Path; from paper_trainers import block_until_interrupted;"
        f"sys.exit(block_until_interrupted({places}))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    with pipe.open(encoding="utf-8") as pids:
        child = int(pids.readline())
        command.send_signal(number)
        assert pids.read() == ""  # the end of the pipe: nobody holds it open any more
    _, said = command.communicate(timeout=60)
    assert command.returncode == {2: 130, 15: 143, 9: -9}[number]
    assert ("the same command goes on from here" in said) == (number == signal.SIGINT)
    assert child != command.pid
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("clients = 6", "clients = 8", "holds another experiment: its clients is 6, this one's 8"),
        ("rounds = 4", "rounds = 4\nsamples = 20", "its samples is None, this one's 20"),
    ],
)
def test_the_folder_of_another_experiment_is_refused_and_left_alone(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert run(tmp_path, report_only=True) == 0
    folder = tmp_path / "out/tiny"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=complaint):
        run(tmp_path, text=ONE_ALPHA.replace(old, new))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out/tiny").mkdir(parents=True)
    (tmp_path / "out/tiny/thesis.tex").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no experiment"):
        run(tmp_path)
    assert os.listdir(tmp_path / "out/tiny") == ["thesis.tex"]  # noqa: PTH208


def test_fewer_samples_than_clients_are_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="samples cannot be divided among 5000 devices"):
        run(tmp_path, text=ONE_ALPHA.replace("clients = 6", "clients = 5000"))
    assert not (tmp_path / "out/tiny").exists()


def test_a_run_that_was_started_with_other_settings_is_refused(tmp_path: Path) -> None:
    first = grid(tiny(tmp_path, ONE_ALPHA), tmp_path / "out/tiny")[0]
    assert run(tmp_path, report_only=True) == 0
    first.folder.mkdir(parents=True)
    (first.folder / "spec.json").write_text(json.dumps(first.spec.to_document()), encoding="utf-8")
    assert run(tmp_path, report_only=True) == 0
    with pytest.raises(ConfigError, match=r"training.learning_rate is 0.05, not 0.06"):
        run(tmp_path, text=ONE_ALPHA.replace("learning_rate = 0.05", "learning_rate = 0.06"))
