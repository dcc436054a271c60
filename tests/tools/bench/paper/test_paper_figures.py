"""Figures are drawn from finished runs, the same for the same runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from paper_runs import client, closed_round, evolved, plain, record, tiny

from fedsparse.methods.method import METHODS
from tools.bench.paper.figures import COLOURS, draw_figures
from tools.bench.paper.records import Record


def evolving() -> Record:
    rounds = [
        closed_round(
            number, [client(0.2, 10, 10)], accuracy={"0.2": 0.5}, consensus=evolved(0.2, 0.9)
        )
        for number in (1, 2)
    ]
    return record("jmwst", {"0.2": 0.5, "0.1": 0.4}, rounds)


def test_accuracy_and_consensus_are_drawn_for_each_alpha_that_was_run(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    runs = [
        plain("dense", 1.0, 0.9),
        plain("spdst", 0.05, 0.88),
        plain("spdst", 0.05, 0.86, seed=1),
        plain("dense", 1.0, 0.7, alpha=0.1),
        evolving(),
    ]
    paths = draw_figures(experiment, runs, tmp_path / "a")
    assert [path.name for path in paths] == [
        "accuracy-a1000.svg",
        "consensus-a1000-d0.05.svg",
        "consensus-a1000-d0.2.svg",
        "accuracy-a0.1.svg",
    ]
    for path in paths:
        assert path.read_bytes().rstrip().endswith(b"</svg>")
    again = draw_figures(experiment, runs, tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_without_matplotlib_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert draw_figures(tiny(tmp_path), [plain("dense", 1.0, 0.9)], tmp_path / "a") == []
    assert not (tmp_path / "a").exists()


def test_every_method_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(METHODS)
    assert len(set(COLOURS.values())) == len(COLOURS)
