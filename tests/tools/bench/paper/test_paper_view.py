"""What running an experiment looks like."""

from __future__ import annotations

import io
from pathlib import Path

from paper_runs import tiny
from rich.console import Console

from tools.bench.paper.grid import grid
from tools.bench.paper.view import RunsView


def shown(tmp_path: Path, *, terminal: bool) -> str:
    """Two runs at once of which one is done and the other fails, 80 columns wide."""
    first, second = grid(tiny(tmp_path), tmp_path)[:2]
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    with RunsView([first, second], finished=5, console=console) as view:
        view.begin(first)
        view.begin(second)
        view.tell(first, 2, None)
        view.tell(second, 3, 0.5)
        view.end(first)
        view.failed(second, "training diverged [nan]")
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_on_a_terminal_every_running_run_has_a_line(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True)
    assert "dense-a1000-s0" in text
    assert "spdst-a1000-s0: failed: training diverged [nan]; 6 of 7 runs" in text
    assert max(len(line) for line in text.splitlines()) < 100


def test_elsewhere_it_is_plain_lines(tmp_path: Path) -> None:
    lines = shown(tmp_path, terminal=False).splitlines()
    assert lines[0].startswith("dense-a1000-s0: round 2 of 4; 5 of 7 runs")
    assert lines[1].startswith("spdst-a1000-s0: round 3 of 4, 50.0 %; 5 of 7 runs, about ")
    assert [line.split(";")[0] for line in lines[2:]] == [
        "dense-a1000-s0: done",
        "spdst-a1000-s0: failed: training diverged [nan]",
    ]
