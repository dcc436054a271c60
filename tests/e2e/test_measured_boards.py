"""`fedsparse bench devices`, for one board: what it foretold of itself is what it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real_groups import require_groups
from typer.testing import CliRunner

from edge_client.emulation.confine import confine
from edge_client.emulation.report import Resource
from tools.bench.devices.cases import LEVELS
from tools.cli import app

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]

BOARD = "raspberry-pi-4b-1gb"


def test_a_board_takes_the_memory_that_it_foretold_and_keeps_its_promise(tmp_path: Path) -> None:
    with confine(BOARD) as place:
        require_groups(place, Resource.MEMORY, Resource.CPU)
    output = tmp_path / "devices.json"
    options = ["--part", "boards", "--boards", BOARD, "--models", "har"]
    result = CliRunner().invoke(
        app, ["bench", "devices", *options, "--rounds", "2", "--output", str(output)]
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert row["level"] in LEVELS
    assert [one["stage"] for one in row["rounds"]] == ["sense", "train", "train"]
    assert row["promise_holds"], row
    assert row["memory_holds"], row
    assert row["round_s"] > 0
    assert all("cgroup" in row["limits"][name] for name in ("memory", "processor"))
