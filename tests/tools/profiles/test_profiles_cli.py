"""The commands as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from probe_document import data
from typer.testing import CliRunner, Result

from fedsparse.boards import board_names, load_board
from fedsparse.errors import ConfigError
from tools.profiles.cli import app
from tools.profiles.views import amount


def run(*arguments: str, columns: int = 80, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)}, input=stdin)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_has_a_line_for_every_board_that_fits_and_marks_each_basis(columns: int) -> None:
    result = run("list", columns=columns)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if line.strip().startswith(("jetson", "raspberry"))]
    assert [row.split()[0] for row in rows] == list(board_names())
    assert all("…" not in row for row in rows)
    pi5 = next(row for row in rows if row.split()[0] == "raspberry-pi-5-8gb")
    for cell in ("8192", "8016 est.", "7.53 G est.", "125 MB/s spec."):
        assert cell in pi5
    assert ("Raspberry Pi 5, 8 GB" in pi5) == (columns == 120)
    zero = next(row for row in rows if "zero" in row)
    assert zero.rstrip().endswith("unknown")


def test_smaller_boards_of_a_kind_come_first() -> None:
    five = [name for name in board_names() if name.startswith("raspberry-pi-5")]
    assert five == ["raspberry-pi-5-4gb", "raspberry-pi-5-8gb", "raspberry-pi-5-16gb"]


def test_a_program_gets_every_figure_with_its_grounds() -> None:
    documents = json.loads(run("list", "--json").stdout)
    assert [one["name"] for one in documents] == list(board_names())
    zero = documents[-1]
    assert zero["memory"]["total_mib"] == {
        "value": 512.0,
        "basis": "specified",
        "source": "Raspberry Pi product brief",
        "date": "2026-11",
    }
    assert zero["network"]["up_bytes_per_s"] is None
    assert zero["compute"]["multiply_adds_per_s"] is None
    assert (zero["speed"]["value"], zero["speed"]["basis"]) == (5e8, "estimated")
    assert zero["can_be_emulated"] is True
    assert json.loads(run("show", "raspberry-pi-zero-2w", "--json").stdout) == zero


@pytest.mark.parametrize("name", board_names())
@pytest.mark.parametrize("columns", [80, 120])
def test_a_board_is_shown_with_source_and_date_of_each_figure(name: str, columns: int) -> None:
    result = run("show", name, columns=columns)
    assert max(map(len, result.stdout.splitlines())) <= columns
    flat = " ".join(result.stdout.split())
    for key, figure in load_board(name).figures():
        if figure is None:
            continue
        start = flat.index(f"{key} ")
        assert f"{figure.basis} {figure.date} {' '.join(figure.source.split())}" in flat[start:]
    assert "unknown: " in flat


def test_a_speed_that_nobody_measured_is_shown_with_its_arithmetic() -> None:
    flat = " ".join(run("show", "raspberry-pi-zero-2w").stdout.split())
    assert (
        "compute.multiply_adds_per_s 500 M multiply-adds/s estimated 2026-11 clock x lanes x "
        "efficiency = 1 GHz x min(4, 2) x 0.25 (in-order) compute.clock_hz"
    ) in flat


def test_what_is_unknown_and_what_keeps_a_board_from_being_emulated_is_said(tmp_path: Path) -> None:
    text = (
        'name = "mine"\ntitle = "[red]Mine[/red]"\ncpu = ""\n'
        'cores = {value = 2, basis = "measured", source = "[b]", date = "2026-01"}\n'
        'memory.total_mib = {value = 256, basis = "measured", source = "x", date = "2026-01"}\n'
    )
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    shown = run("show", str(path)).stdout
    assert "[red]Mine[/red] (mine)" in shown
    assert "    [b]" in shown
    assert "unknown: memory.available_mib, " in shown
    flat = " ".join(shown.split())
    assert "cannot be emulated without memory.available_mib and compute.multiply_adds_per_s" in flat
    assert json.loads(run("show", str(path), "--json").stdout)["can_be_emulated"] is False
    row = run("list", str(path)).stdout.splitlines()[3]
    assert row.split() == ["mine", "2", "256", "unknown", "unknown", "unknown"]


def test_own_boards_are_listed_beside_others_but_not_twice(tmp_path: Path) -> None:
    copy = tmp_path / "jetson-nano.toml"
    copy.write_bytes((resources.files("profiles") / copy.name).read_bytes())
    result = run("list", str(copy), "raspberry-pi-3b-plus")
    assert "jetson-nano" in result.stdout
    twice = run("list", str(copy), "jetson-nano")
    assert isinstance(twice.exception, ConfigError)
    assert "two boards of the same name: jetson-nano" in str(twice.exception)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("raspberi-pi-5", "did you mean 'raspberry-pi-5-8gb' or 'raspberry-pi-5-4gb'"),
        ("jetson-xavier", "did you mean 'jetson-xavier-nx'"),
        ("my-pi", "for the file of that name, write 'my-pi.toml'"),
        ("./nowhere.toml", "nowhere.toml: no such file"),
    ],
)
def test_a_wrong_name_is_answered_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-pi.toml").touch()
    result = run("show", wrong)
    assert isinstance(result.exception, ConfigError)
    assert hint in str(result.exception)


def test_a_board_far_away_becomes_a_profile_through_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("new", "-", "--name", "my-pi", stdin=data(link__up_bytes_per_s=None))
    assert result.exit_code == 0, result.output
    assert result.stdout == "my-pi.toml\n"
    assert result.stderr == "note: unknown and left out: network.up_bytes_per_s\n"
    assert load_board("my-pi.toml").name == "my-pi"
    listed = run("list", "my-pi.toml").stdout
    row, below = (line.split() for line in listed.splitlines()[3:5])
    assert row == ["my-pi", "4", "1875", "1660", "meas.", "1.80", "G", "meas.", "unknown"]
    assert below == ["4.50", "MB/s", "meas."]


def test_name_and_output_follow_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.json").write_bytes(data())
    assert run("new", "probe.json").stdout == "raspberry-pi-4-model-b-rev-1-5.toml\n"
    assert run("new", "probe.json", "-o", "boards/attic.toml").stdout == "boards/attic.toml\n"
    assert load_board("boards/attic.toml").name == "attic"
    again = run("new", "probe.json", "-o", "boards/attic.toml")
    assert "--force" in str(again.exception)
    assert run("new", "probe.json", "-o", "boards/attic.toml", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--name", "My Pi"], "the name 'My Pi' is not"),
        (["-o", "My_Pi.toml"], "the name 'My_Pi' is not"),
        (["--name", "a", "-o", "b.toml"], "named 'a': rename the file to a.toml"),
        (["--date", "yesterday"], "--date yesterday: expected a day such as"),
        (["--date", "2026-1-2"], "--date 2026-1-2: expected a day"),
        (["--date", "2199-01-01"], "2199-01-01 is in the future"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("new", "-", *options, stdin=data())
    assert isinstance(result.exception, ConfigError)
    assert complaint in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_document_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("new", str(tmp_path / "probe.json"))
    assert "probe.json: cannot be read: No such file" in str(result.exception)


def test_errors_are_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "profiles", "show", "jetson-nan"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fedsparse: unknown board 'jetson-nan'; did you mean 'jetson-nano'?\n"


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (2048, "memory.total_mib", "2048 MiB"),
        (1.3e9, "memory.memcpy_bytes_per_s", "1.30 GB/s"),
        (37.5e6, "up_bytes_per_s", "37.5 MB/s"),
        (2500, "up_bytes_per_s", "2.50 kB/s"),
        (125e6, "up_bytes_per_s", "125 MB/s"),
        (7.04e9, "compute.multiply_adds_per_s", "7.04 G multiply-adds/s"),
        (1.43e9, "compute.clock_hz", "1.43 GHz"),
        (8, "compute.fma_lanes_per_cycle", "8 lanes of 32 bits"),
        (3.7e8, "compute.hpl_flops", "370 MFLOPS"),
        (4, "cores", "4"),
    ],
)
def test_amounts_are_read_at_a_glance(value: float, key: str, text: str) -> None:
    assert amount(value, key) == text
