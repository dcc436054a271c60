"""`edge-client bench`: what a user runs on a board."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_client.bench import command
from edge_client.bench.options import DENSITIES
from edge_client.bench.table import EMULATED, machine_lines
from edge_client.cli import main
from edge_client.probe.memory import MemoryReading
from fedsparse.plan.zoo import digits_plan

ROOT = Path(__file__).parents[3]
# What a device does not have: importing it fails, in the command and in its workers.
BARE = "import sys\nfor name in ('torch', 'onnx', 'typer', 'rich'): sys.modules[name] = None\n"


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(BARE)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-m", "edge_client", "bench", "--quick", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_board_needs_no_torch_and_gets_a_table_and_a_file(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(digits_plan().to_json())
    done = bench(tmp_path, "digits", str(plan), "--densities", "0.1,1", "--batch", "4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 + len(str(plan))
    assert [line.split()[1] for line in lines if line.startswith("digits")] == ["0.1", "1.0"]
    document = json.loads((tmp_path / "fedsparse-bench.json").read_text())
    assert (document["format"], document["batch_size"]) == ("fedsparse.bench", 4)
    assert document["plans"] == dict.fromkeys(("digits", str(plan)), digits_plan().digest)
    row = document["models"][str(plan)]["0.1"]
    assert row["step_ms"] > 0
    assert row["predicted_peak_mb"] == pytest.approx(row["peak_rss_mb"], rel=0.15)
    assert document["limits"].keys() == set(document["machine"]["variants"])


def test_an_unknown_model_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = bench(tmp_path, "mnits")
    assert done.returncode == 2
    assert done.stderr.startswith("edge-client: no model 'mnits': take one of ")
    assert len(done.stderr.splitlines()) == 1


def test_a_row_that_memory_does_not_hold_is_left_out_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight = MemoryReading(total_bytes=10**7, available_bytes=10**7, source="made up")
    monkeypatch.setattr(command, "read_memory", lambda: tight)
    path = tmp_path / "bench.json"
    arguments = ["bench", "digits", "--densities", "0.1", "--quick", "--output", str(path)]
    assert main(arguments) == 0
    reason = json.loads(path.read_text())["models"]["digits"]["0.1"]["skipped"]
    assert reason.endswith("MB, 10 MB are available")
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--densities", "2"], ["--densities", "x"], ["--batch", "0"], ["--threads", "-1"]]
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "65"], "threads must be 1 to 64"),
        (["--output", "."], "cannot be written"),
    ],
)
def test_what_would_fail_in_the_end_is_refused_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = bench(tmp_path, "digits", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_says_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    assert all(f"{density:g}" in text for density in DENSITIES)


def test_an_emulated_processor_is_called_that() -> None:
    facts = {"board": "x", "architecture": "aarch64", "cpus": 2, "memory_mb": 1, "emulated": True}
    assert EMULATED in list(machine_lines(facts, {}))
    del facts["emulated"]
    assert EMULATED not in list(machine_lines(facts, {}))


def test_the_agent_starts_without_the_bench() -> None:
    code = "import sys, edge_client.cli; sys.exit('edge_client.bench.command' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
