"""`fedsparse devices`: who takes part in a job, at which level, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator.events import EVENTS
from tools.cli import app

JOB = """
name = "small"
site = "lab"
plan = "plan.json"
output = "job"
rounds = 2

[method]
name = "spdst"
levels = [0.2, 0.1]

[training]
learning_rate = 0.1
learning_rate_end = 0.01
"""
DIARY = (
    {"event": "job_started", "job": "small"},
    {"event": "device_online", "device": "press-1", "board": "a board"},
    {"event": "device_ready", "device": "press-1", "round": 1, "level": 0.2, "reason": "it fits"},
    {"event": "device_decided", "device": "press-2", "job": "small", "round": 2, "level": None,
     "reason": "declined by policy: ffmpeg runs"},
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    (tmp_path / "job").mkdir()
    return tmp_path / "job.toml"


def write(job: Path, *events: dict[str, object]) -> None:
    text = "".join(json.dumps(event) + "\n" for event in events)
    (job.parent / "job" / EVENTS).write_text(text, encoding="utf-8")


def test_each_device_has_a_line_with_its_last_decision(job: Path) -> None:
    write(job, *DIARY)
    result = CliRunner().invoke(app, ["devices", str(job)])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[1] == ["press-1", "online", "1", "0.2", "it", "fits"]
    assert lines[2][:4] == ["press-2", "offline", "2", "-"]
    assert result.output.splitlines()[2].endswith("declined by policy: ffmpeg runs")


def test_programs_get_a_document(job: Path) -> None:
    write(job, *DIARY)
    result = CliRunner().invoke(app, ["devices", str(job), "--json"])
    found = json.loads(result.output)
    assert list(found) == ["press-1", "press-2"]
    assert found["press-2"]["level"] is None


def test_where_nobody_has_come_it_says_what_to_do(job: Path) -> None:
    write(job, DIARY[0])
    result = CliRunner().invoke(app, ["devices", str(job)])
    assert "No device has come yet: start one with `edge-client run client.toml`." in result.output
