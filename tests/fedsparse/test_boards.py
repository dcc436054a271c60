from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedsparse.boards import Board, Figure, board_names, load_board
from fedsparse.errors import ConfigError

REQUIRED = {
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4b-2gb",
    "raspberry-pi-4b-8gb",
    "raspberry-pi-5-8gb",
    "jetson-nano",
    "jetson-orin-nano",
}
MINIMAL = """
name = "mine"
title = "Mine"
cpu = "1x something"
cores = {value = 2, basis = "specified", source = "sheet", date = "2026-01-31"}
[memory]
total_mib = {value = 256, basis = "specified", source = "sheet", date = "2026-01"}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_promised_boards_are_shipped() -> None:
    assert set(board_names()) >= REQUIRED


@pytest.mark.parametrize("name", board_names())
def test_a_shipped_profile_is_named_as_its_file_and_can_be_emulated(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.memory.available_mib is not None
    assert board.compute.multiply_adds_per_s is not None


@pytest.mark.parametrize("name", board_names())
def test_no_shipped_speed_or_free_memory_claims_to_be_measured(name: str) -> None:
    board = load_board(name)
    for figure in (board.compute.multiply_adds_per_s, board.memory.available_mib):
        assert figure is not None
        assert figure.basis == "estimated"


@pytest.mark.parametrize("name", board_names())
def test_an_estimated_speed_follows_from_the_formula_in_its_source(name: str) -> None:
    speed = load_board(name).compute.multiply_adds_per_s
    assert speed is not None
    found = re.search(r"([\d.]+) GHz x min\((\d+), (\d+)\) x ([\d.]+);", speed.source)
    assert found is not None
    clock, fma_lanes, load_lanes, efficiency = (float(text) for text in found.groups())
    expected = clock * 1e9 * min(fma_lanes, load_lanes) * efficiency
    assert speed.value == pytest.approx(expected, rel=0.02)


def test_the_boards_are_ordered_by_speed_as_their_cores_are() -> None:
    names = ("raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "raspberry-pi-4b-2gb")
    figures = [load_board(name).compute.multiply_adds_per_s for name in names]
    values = [figure.value for figure in figures if figure is not None]
    assert len(values) == 3
    assert values == sorted(values)


def test_wifi_that_nobody_measured_is_absent() -> None:
    network = load_board("raspberry-pi-zero-2w").network
    assert network.up_bytes_per_s is None
    assert network.down_bytes_per_s is None


def test_an_own_profile_is_loaded_by_its_path(tmp_path: Path) -> None:
    board = load_board(write(tmp_path, MINIMAL))
    assert isinstance(board, Board)
    assert board.compute.multiply_adds_per_s is None
    assert load_board(str(tmp_path / "mine.toml")) == board


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("raspberry-pi-4b-2g", "did you mean 'raspberry-pi-4b-2gb'"),
        ("pi-zero-2w", "did you mean 'raspberry-pi-zero-2w'"),
        ("Jetson_Nano", "did you mean 'jetson-nano'"),
        ("toaster", "known boards: jetson-nano, "),
        ("", "known boards: "),
    ],
)
def test_an_unknown_board_is_answered_with_the_nearest_names(wrong: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        load_board(wrong)


def test_a_missing_profile_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_board(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("value = 256", "value = 4", "total_mib 4 is absurd"),
        ("value = 256", "value = -1", "value must be positive"),
        ("value = 256", "value = nan", "expected a finite number"),
        ("value = 2,", "value = 2.5,", "cores must be a whole number"),
        ("value = 2,", "value = 90000,", "cores 90000 is absurd"),
        ('"2026-01-31"', '"January"', "date must be YYYY-MM"),
        ('basis = "specified", source = "sheet", date = "2026-01"}', 'basis = "guessed", '
         'source = "sheet", date = "2026-01"}', "basis must be one of measured"),
        ('source = "sheet", date = "2026-01"}', 'source = " ", date = "2026-01"}', "source must"),
        ('name = "mine"', 'name = "Mine!"', "name must be"),
        ("total_mib", "total_mb", "unknown key 'total_mb'; did you mean 'total_mib'"),
    ],
)  # fmt: skip
def test_an_absurd_profile_is_refused_with_file_and_key(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    assert MINIMAL.count(before) == 1
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_board(write(tmp_path, MINIMAL.replace(before, after)))
    assert "mine.toml" in str(caught.value)


def test_more_available_than_fitted_is_refused(tmp_path: Path) -> None:
    extra = 'available_mib = {value = 300, basis = "estimated", source = "x", date = "2026-01"}'
    with pytest.raises(ConfigError, match="available_mib 300 exceeds total_mib 256"):
        load_board(write(tmp_path, MINIMAL + extra))


def test_a_speed_out_of_this_world_is_refused(tmp_path: Path) -> None:
    speed = (
        '[compute]\nmultiply_adds_per_s = {value = 9e15, basis = "measured", '
        'source = "x", date = "2026-01"}'
    )
    with pytest.raises(ConfigError, match=r"multiply_adds_per_s 9e\+15 is absurd"):
        load_board(write(tmp_path, MINIMAL + speed))


def test_a_figure_keeps_its_basis() -> None:
    figure = Figure(value=3, basis="measured", source="bench", date="2026-02")
    assert figure.basis == "measured"
