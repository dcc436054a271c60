"""The diary of a run, on one clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.emulate.journal import Journal


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_aggregators_entries_come_onto_our_clock(tmp_path: Path) -> None:
    clock = Clock()
    with Journal(tmp_path / "events.jsonl", clock) as journal:
        clock.now_s = 103.3  # its clock began at 103, and we look 0.3 s late
        journal.copy({"event": "job_started", "time_s": 0.0})
        clock.now_s = 105.1
        copied = journal.copy({"event": "round_opened", "time_s": 2.0})
        noted = journal.note("happened", device="a")
        clock.now_s = 107.8
        late = journal.copy({"event": "update", "time_s": 4.5})
    assert late["time_s"] == pytest.approx(7.6)  # not when we saw it
    assert copied["time_s"] == pytest.approx(5.1)
    assert noted["time_s"] == pytest.approx(5.1)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["by"] for line in lines] == ["aggregator", "aggregator", "emulation", "aggregator"]


def test_an_aggregator_that_starts_again_begins_a_new_clock(tmp_path: Path) -> None:
    clock = Clock()
    with Journal(tmp_path / "events.jsonl", clock) as journal:
        clock.now_s = 110.0
        journal.copy({"event": "update", "time_s": 10.0})
        clock.now_s = 150.0
        again = journal.copy({"event": "job_started", "time_s": 0.0})
    assert again["time_s"] == pytest.approx(50.0)
