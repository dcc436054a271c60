"""docs/profiles.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedsparse.boards import load_board
from fedsparse.boards.speed import BYTES_A_MULTIPLY_ADD, EFFICIENCY
from fedsparse.errors import ConfigError

PAGE = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    path = tmp_path / "my-board.toml"
    path.write_text(found[1], encoding="utf-8")
    return path


def test_the_example_is_a_profile(example: Path) -> None:
    board = load_board(example)
    assert (board.name, board.memory.total_mib.value) == ("my-board", 2048)


def test_the_table_has_every_key_and_no_other(example: Path) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    keys = [key for row in rows for key in re.findall(r"`([^`]+)`", row)]
    figures = [key for key, _ in load_board(example).figures()]
    assert sorted(keys) == sorted([*figures, "compute.pipeline"])


def test_the_complaint_that_is_quoted_is_the_one_that_comes(example: Path) -> None:
    quoted = re.search(r"`(clock_hz 1400 is absurd[^`]*)`", PAGE)
    assert quoted is not None
    figure = 'clock_hz = {value = 1400, basis = "measured", source = "x", date = "2026-01"}'
    with example.open("a", encoding="utf-8") as file:
        file.write(f"[compute]\n{figure}\n")
    with pytest.raises(ConfigError, match=re.escape(quoted[1])):
        load_board(example)


def test_the_constants_are_those_of_the_code() -> None:
    assert (
        f"**efficiency** {EFFICIENCY['out-of-order']:g}, and {EFFICIENCY['in-order']:g} for" in PAGE
    )
    assert f"**bytes a multiply-add** {BYTES_A_MULTIPLY_ADD:g}:" in PAGE
