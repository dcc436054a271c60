"""`fedsparse bench threads`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tools.bench.threads import ThreadsRow
from tools.cli import app

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def test_threads_may_cost_five_percent_at_most() -> None:
    rows = [
        ThreadsRow(model="m", density=0.1, step_ms={1: 10.0, 2: two}) for two in (6.0, 10.4, 10.6)
    ]
    assert [row.holds for row in rows] == [True, True, False]
    assert rows[0].slowdown == 1.0


def test_every_number_of_threads_is_timed_beside_one(tmp_path: Path) -> None:
    path = tmp_path / "threads.json"
    command = ["bench", "threads", "--models", "digits", "--densities", "0.1,1.0", "--quick"]
    result = RUNNER.invoke(app, [*command, "--batch", "8", "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = json.loads(path.read_text())["rows"]
    assert [one["density"] for one in rows] == [0.1, 1.0]
    for one in rows:
        assert one["step_ms"].keys() == {"1", "2"}
        assert all(ms > 0 for ms in one["step_ms"].values())
