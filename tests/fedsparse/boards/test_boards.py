"""Profiles are found by name or path; what is wrong in one is named, with what was meant."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fedsparse.boards import Board, Figure, load_board
from fedsparse.errors import ConfigError

TODAY = date(2026, 4, 30)
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
        ("toaster", "known boards: jetson-agx-orin-32gb, "),
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
        ("value = 256", "value = 4", "total_mib 4 is absurd: expected 128 to 1.04858e.06 MiB; "
         "if it is in GiB, write 4096"),
        ("value = 256", "value = 268_435_456", "if it is in bytes, write 256"),
        ("value = 256", "value = 0", "value must be positive .*leave out what is unknown"),
        ("value = 256", f"value = 1{400 * '0'}", "too many digits"),
        ("value = 256", f"value = 1{5000 * '0'}", "cannot be read: Exceeds the limit"),
        ("value = 256", 'value = "256"', "total_mib: value: expected float, got '256'"),
        ("total_mib = {value = 256, basis = \"specified\", source = \"sheet\", date = \"2026-01\"}",
         "total_mib = 256", "expected a table, got 256; its keys are value, basis, source, date"),
        ("source = \"sheet\", date = \"2026-01\"}", "date = \"2026-01\"}",
         "total_mib: the key 'source' is missing"),
        ("source = \"sheet\", date = \"2026-01\"}", "source = \"sheet\"}",
         "total_mib: the key 'date' is missing"),
        ('"2026-01-31"', "2026-01-31", "expected str, got 2026-01-31; put it in quotes"),
        ('"2026-01-31"', '"2026-02-31"', "date must be YYYY-MM"),
        ('"2026-01-31"', '"1970-01-01"', "before 2000: was the clock not set"),
        ('"2026-01-31"', '"2026-05-02"', "cores: date 2026-05-02 is in the future; .* 2026-04-30"),
        ('name = "mine"', 'name = "yours"', "rename the file to yours.toml, or the board"),
        ('title = "Mine"', 'title = "Mi\\nne"', "title must be one line"),
        ("[memory]", "[memory", r"not valid TOML: .*\(at line 6, column 8\)"),
        ("[memory]", "[cores]", "not valid TOML: .*line 6"),
        ("[memory]", f"x = {3000 * '['}", "cannot be read: "),
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
        load_board(write(tmp_path, MINIMAL.replace(before, after)), today=TODAY)
    assert "mine.toml" in str(caught.value)


def test_a_figure_of_tomorrow_may_be_one_of_another_time_zone(tmp_path: Path) -> None:
    tomorrow = MINIMAL.replace("2026-01-31", "2026-05-01")
    assert load_board(write(tmp_path, tomorrow), today=TODAY).cores.date == "2026-05-01"


def test_a_shipped_boards_name_on_other_figures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jetson-nano.toml"
    path.write_text(MINIMAL.replace('"mine"', '"jetson-nano"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="'jetson-nano' is a shipped board with other figures"):
        load_board(path)


def test_more_available_than_fitted_is_refused(tmp_path: Path) -> None:
    extra = 'available_mib = {value = 300, basis = "estimated", source = "x", date = "2026-01"}'
    with pytest.raises(ConfigError, match="available_mib 300 exceeds total_mib 256"):
        load_board(write(tmp_path, MINIMAL + extra))


@pytest.mark.parametrize(
    ("table", "key", "value", "complaint"),
    [
        ("compute", "multiply_adds_per_s", 9e15, r"multiply_adds_per_s 9e\+15 is absurd"),
        ("compute", "multiply_adds_per_s", 2400, "if it is in millions a second, write 2.4e.09"),
        ("compute", "clock_hz", 1.4, "1e.07 to 2e.10 Hz; if it is in GHz, write 1.4e.09"),
        ("compute", "clock_hz", 1400, "if it is in MHz, write 1.4e.09"),
        ("compute", "fma_lanes_per_cycle", 0.5, "expected 1 to 256 lanes of 32 bits"),
        ("memory", "memcpy_bytes_per_s", 1300, "if it is in MB/s, write 1.3e.09"),
        ("memory", "memset_bytes_per_s", 1.5, "if it is in GB/s, write 1.5e.09"),
        ("memory", "available_mib", 2e8, "if it is in bytes, write 190.735"),
        ("network", "up_bytes_per_s", 125, "if it is in MB/s, write 1.25e.08"),
        ("network", "down_bytes_per_s", 1000, "if it is in Mbit/s, write 1.25e.08"),
        ("storage", "write_bytes_per_s", 20, "if it is in MB/s, write 2e.07"),
    ],
)
def test_a_figure_in_another_unit_is_refused_with_the_range_and_what_was_meant(
    tmp_path: Path, table: str, key: str, value: float, complaint: str
) -> None:
    figure = f'{key} = {{value = {value}, basis = "measured", source = "x", date = "2026-01"}}'
    text = MINIMAL + (figure if table == "memory" else f"[{table}]\n{figure}")
    with pytest.raises(ConfigError, match=rf"mine\.toml: {table}: .*{complaint}"):
        load_board(write(tmp_path, text))


def test_a_pipeline_of_another_kind_is_refused(tmp_path: Path) -> None:
    text = MINIMAL + '[compute]\npipeline = "superscalar"\n'
    with pytest.raises(ConfigError, match="must be 'out-of-order' or 'in-order', got 'supersc"):
        load_board(write(tmp_path, text))


def test_a_relative_path_is_taken_from_the_folder_given(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    assert load_board("mine.toml", folder=tmp_path).name == "mine"
    assert load_board("jetson-nano", folder=tmp_path).name == "jetson-nano"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_board("a\0b.toml")


def test_figures_are_all_of_a_board_known_or_not(tmp_path: Path) -> None:
    figures = dict(load_board(write(tmp_path, MINIMAL)).figures())
    assert [key for key, figure in figures.items() if figure] == ["cores", "memory.total_mib"]
    assert figures.keys() >= {"compute.clock_hz", "storage.write_bytes_per_s",
                              "network.up_bytes_per_s"}  # fmt: skip
    assert "compute.pipeline" not in figures


def test_a_figure_keeps_its_basis() -> None:
    figure = Figure(value=3, basis="measured", source="bench", date="2026-02")
    assert figure.basis == "measured"
