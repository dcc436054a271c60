"""A small fleet file and its variations."""

from __future__ import annotations

from pathlib import Path

from tools.emulate.fleet_file import Fleet, load_fleet

GOOD = """
name = "small"
seed = 5

[[groups]]
name = "desk"
board = "raspberry-pi-4b-2gb"
count = 2

[[groups]]
name = "shelf"
board = "raspberry-pi-5-8gb"

[job]
rounds = 3
deadline_s = 90.0
"""


def fleet_from(folder: Path, text: str = GOOD) -> Fleet:
    path = folder / "fleet.toml"
    path.write_text(text)
    return load_fleet(path)


def fleet_with(folder: Path, old: str, new: str) -> Fleet:
    """The good file with one thing changed."""
    assert old in GOOD
    return fleet_from(folder, GOOD.replace(old, new))
