"""Running a grid: what is missing is run, a failure costs no other run, nothing stays behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import paper_trainers
import pytest
from paper_runs import EXPERIMENT, tiny, write_experiment

from fedsparse.errors import ConfigError, DataError
from fedsparse.plan.finding import find_plan
from tools.bench.paper.command import PaperRequest, run_paper
from tools.bench.paper.grid import claim_folder, grid
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


def claimed(tmp_path: Path, text: str = ONE_ALPHA) -> Path:
    """The experiment's folder, with nothing run yet."""
    folder = tmp_path / "out/tiny"
    claim_folder(folder, tiny(tmp_path, text))
    return folder


def starts(tmp_path: Path) -> dict[str, list[int]]:
    """For each run that was ever begun: the workers of each start."""
    files = sorted((tmp_path / "out/tiny/runs").glob("*/starts"))
    return {file.parent.name: [int(one) for one in file.read_text().split()] for file in files}


def contents(folder: Path) -> dict[Path, bytes]:
    """All files in a folder and below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_a_run_that_is_interrupted_by_others_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: signal.Handlers
) -> None:
    """Also where the command ignores interrupts, as in the background of a shell."""
    text, only = ONE_SEED, ("dense", "spdst")
    signal.signal(signal.SIGINT, before)
    try:
        assert run(tmp_path, paper_trainers.interrupt_itself, text=text, only=only) == 1
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert "dense-a1000-s0 failed: was interrupted" in capsys.readouterr().err
    assert list(starts(tmp_path)) == ["spdst-a1000-s0"]


def test_what_a_gateway_logs_goes_to_a_file_of_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, paper_trainers.grumble, text=ONE_SEED, only=("dense",)) == 0
    shown = capfd.readouterr()
    logged = (tmp_path / "out/tiny/runs/dense-a1000-s0/run.log").read_text(encoding="utf-8")
    for one in ("level=WARNING rejected=client-0001 reason='NaN'", "overflow in multiply"):
        assert one in logged
        assert one not in shown.err + shown.out
    assert "rejected" not in shown.err + shown.out


def test_runs_go_side_by_side_and_divide_the_workers(tmp_path: Path) -> None:
    """A pipe lets neither run end before both have opened it."""
    claimed(tmp_path, ONE_SEED)
    os.mkfifo(tmp_path / "out/tiny/meeting")
    assert (
        run(tmp_path, paper_trainers.meet, text=ONE_SEED, only=("dense", "spdst"), workers=5) == 0
    )
    assert starts(tmp_path) == {"dense-a1000-s0": [2], "spdst-a1000-s0": [2]}
    assert run(tmp_path, text=ONE_SEED, workers=5) == 0
    assert starts(tmp_path)["jmwst-a1000-s0"] == [5]


def test_a_report_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claimed(tmp_path)
    assert run(tmp_path, report_only=True) == 0
    assert not starts(tmp_path)
    assert "No run is finished yet." in capsys.readouterr().out
    assert (tmp_path / "out/tiny/table.md").is_file()


def test_a_report_on_nothing_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, report_only=True) == 0
    assert "No run is finished yet." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    first = grid(tiny(tmp_path, ONE_ALPHA), claimed(tmp_path))[0]
    first.folder.mkdir(parents=True)
    assert run(tmp_path, report_only=True) == 0
    assert not list(first.folder.iterdir())


def test_a_report_on_a_folder_that_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders stand where files would, so that it fails for the superuser, too."""
    assert run(tmp_path) == 0
    folder = tmp_path / "out/tiny"
    written = (folder / "experiment.json").stat().st_mtime_ns
    for name in ("table.json", "table.md"):
        (folder / name).unlink()
        (folder / name).mkdir()
    capsys.readouterr()
    assert run(tmp_path, report_only=True) == 0
    shown = capsys.readouterr()
    assert "| 1000 | spdst | 0.05 | 88.00" in shown.out
    assert f"printed only: {folder / 'table.json'}: not a regular file" in shown.err
    with pytest.raises(ConfigError, match=r"table.json: not a regular file; .* another --output"):
        run(tmp_path)
    assert (folder / "experiment.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("place", ["out", "out/tiny"])
@pytest.mark.parametrize("report_only", [False, True])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, place: str, report_only: bool) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("thesis", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{tmp_path / 'out'}.*; .* take another --output"):
        run(tmp_path, report_only=report_only)
    assert (tmp_path / place).read_text(encoding="utf-8") == "thesis"


def test_an_output_on_a_disk_that_is_read_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match=r"out: Read-only file system; .* another --output"):
        run(tmp_path)


def test_a_damaged_run_is_found_before_others_are_started(tmp_path: Path) -> None:
    assert run(tmp_path, only=("dense",)) == 0
    damaged = tmp_path / "out/tiny/runs/dense-a1000-s0"
    (damaged / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"remove {damaged}, and it is run again"):
        run(tmp_path)
    assert all(name.startswith("dense") for name in starts(tmp_path))
    shutil.rmtree(damaged)
    assert run(tmp_path) == 0
    assert set(starts(tmp_path)) == set(NAMES)


def blocked(
    tmp_path: Path, train: Train = paper_trainers.wait_for_ever, *, importing: bool = False
) -> tuple[subprocess.Popen[str], Path]:
    """A command with a run that never ends, and the pipe on which that run waits."""
    experiment = write_experiment(tmp_path, ONE_ALPHA)
    pipe = claimed(tmp_path) / "pids"
    os.mkfifo(pipe)
    places = f"Path({str(experiment)!r}), Path({str(tmp_path / 'out')!r})"
    waits = str(pipe) if importing else ""
    code = (
        "import sys; from pathlib import Path; from paper_trainers import *;"
        f"sys.exit(block_until_interrupted({places}, {train.__name__}, {waits!r}))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    return command, pipe


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_ends_its_runs(tmp_path: Path, number: signal.Signals) -> None:
    command, pipe = blocked(tmp_path)
    with pipe.open(encoding="utf-8") as pids:
        child = int(pids.readline())
        command.send_signal(number)
        assert pids.read() == ""  # the end of the pipe: nobody holds it open any more
    _, said = command.communicate(timeout=60)
    assert command.returncode == {2: 130, 15: 143, 9: -9}[number]
    assert ("the same command goes on from here" in said) == (number != signal.SIGKILL)
    assert child != command.pid
    assert "Traceback" not in said


def test_a_command_that_is_stopped_does_not_wait_for_what_its_workers_are_at(
    tmp_path: Path,
) -> None:
    """Else it would have to kill their run, and Python would complain of what that left behind."""
    command, pipe = blocked(tmp_path, paper_trainers.wait_in_a_worker)
    with pipe.open("wb"):  # once a worker is there to read
        command.send_signal(signal.SIGTERM)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 143
    assert said.splitlines() == ["stopped; the same command goes on from here"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_while_it_starts_says_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    command, pipe = blocked(tmp_path, importing=True)
    with pipe.open("wb"):  # once a run's process is at its imports
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    assert said.splitlines() == ["stopped; the same command goes on from here"]


def test_a_second_command_on_one_folder_is_refused_until_the_first_one_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it ends: killed, it leaves the lock file behind, and nobody who holds it."""
    command, pipe = blocked(tmp_path)
    folder = tmp_path / "out/tiny"
    with pipe.open(encoding="utf-8") as pids:
        pids.readline()
        before = contents(tmp_path)
        with pytest.raises(ConfigError, match=f"another command runs the experiment in {folder}:"):
            run(tmp_path)
        assert contents(tmp_path) == before
        assert run(tmp_path, report_only=True) == 0
        assert "No run is finished yet." in capsys.readouterr().out
        command.kill()
        command.communicate(timeout=60)
        assert run(tmp_path) == 0
        assert pids.read() == ""
    assert set(starts(tmp_path)) == set(NAMES)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("clients = 6", "clients = 8", "another experiment (clients is 6, not 8): take another"),
        ("rounds = 4", "rounds = 4\nsamples = 20", "(samples is None, not 20)"),
        (
            'dataset = "digits"\nplan = "digits"',
            'dataset = "watch"\nplan = "watch"',
            "(dataset is digits, not watch; plan is digits, not watch; plan_digest is ",
        ),
    ],
)
def test_the_folder_of_another_experiment_is_refused_and_left_alone(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    folder = claimed(tmp_path)
    before = contents(folder)
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        run(tmp_path, text=ONE_ALPHA.replace(old, new))
    assert contents(folder) == before


@pytest.mark.parametrize("key", ["format", "samples", "plan_digest"])
@pytest.mark.parametrize("file", ["experiment.json", "runs/dense-a1000-s0/spec.json"])
def test_a_file_of_another_format_is_not_read_with_defaults(
    tmp_path: Path, file: str, key: str
) -> None:
    assert run(tmp_path, text=ONE_SEED, only=("dense",)) == 0
    path = tmp_path / "out/tiny" / file
    document = json.loads(path.read_text(encoding="utf-8"))
    value = document.pop(key)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"another \w+ \({key} is missing, not {value}\): "):
        run(tmp_path, text=ONE_SEED, report_only=True)
    path.write_text(json.dumps({**document, key: value, "new": None}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"another \w+ \(new is None, not missing\): "):
        run(tmp_path, text=ONE_SEED, report_only=True)


def test_a_plan_file_that_changed_makes_another_experiment(tmp_path: Path) -> None:
    text = ONE_SEED.replace('plan = "digits"', 'plan = "plan.json"')
    plan = tmp_path / "plan.json"
    plan.write_text(find_plan("digits").to_json(), encoding="utf-8")
    assert run(tmp_path, text=text, only=("dense",)) == 0
    old, new = find_plan("digits").digest, find_plan("mnist").digest
    plan.write_text(find_plan("mnist").to_json(), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=rf"another experiment \(plan_digest is {old}, not {new}\)"
    ):
        run(tmp_path, text=text)
    (tmp_path / "out/tiny/experiment.json").unlink()
    claimed(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"dense-a1000-s0 holds .*digest is {old}, not {new}"):
        run(tmp_path, text=text)


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
    first = grid(tiny(tmp_path, ONE_ALPHA), claimed(tmp_path))[0]
    first.folder.mkdir(parents=True)
    (first.folder / "spec.json").write_text(json.dumps(first.spec.to_document()), encoding="utf-8")
    assert run(tmp_path, report_only=True) == 0
    assert not (first.folder / "result.json").exists()
    with pytest.raises(ConfigError, match=r"training.learning_rate is 0.05, not 0.06"):
        run(tmp_path, text=ONE_ALPHA.replace("learning_rate = 0.05", "learning_rate = 0.06"))
