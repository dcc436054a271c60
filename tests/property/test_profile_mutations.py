"""Any mutation of a shipped profile loads or is refused; nothing else ever happens."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_client.host import EmulatedHost, RealHost
from edge_client.probe.memory import MemoryReading
from fedsparse.boards import board_names, load_board
from fedsparse.errors import ConfigError

NAME = "raspberry-pi-zero-2w"
SHIPPED = (resources.files("profiles") / f"{NAME}.toml").read_bytes()
LINES = SHIPPED.decode().splitlines()
HAZARDS = (
    "true", "[]", "{}", '""', '"x"', '"\\u0000"', "2026-11-23", "12:30:00", "0x7f", "nan", "-inf",
    "1e999", f"1{400 * '0'}", f"9{5000 * '9'}", 2000 * "[", 2000 * "{a=", "'''", "\\",
    "{value = 1}",
)  # fmt: skip
VALUES = st.one_of(
    st.integers(-(10**30), 10**30).map(str), st.floats().map(repr), st.sampled_from(HAZARDS)
)
REAL = RealHost(lambda: MemoryReading(total_bytes=2**36, available_bytes=2**36, source="system"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.toml"


@st.composite
def byte_mutations(draw: st.DrawFn) -> bytes:
    """Some bytes replaced, inserted or taken out."""
    data = bytearray(SHIPPED)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(0, 3))
        data[at : at + length] = draw(st.binary(max_size=3))
    return bytes(data)


@st.composite
def line_mutations(draw: st.DrawFn) -> bytes:
    """Some lines gone, twice, moved, or with another value."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines.pop(at)
        kind = draw(st.sampled_from(["drop", "double", "move", "value"]))
        if kind == "double":
            lines[at:at] = [line, line]
        elif kind == "move":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "value":
            lines.insert(at, f"{line.partition('=')[0]} = {draw(VALUES)}")
    return "\n".join(lines).encode()


def loads_or_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        board = load_board(path)
        EmulatedHost(board, REAL).memory()
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - any message will do, another exception will not


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=byte_mutations())
def test_mutated_bytes_load_or_are_refused(path: Path, data: bytes) -> None:
    loads_or_is_refused(path, data)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=line_mutations())
def test_mutated_lines_load_or_are_refused(path: Path, data: bytes) -> None:
    loads_or_is_refused(path, data)


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard[:12])
def test_any_value_in_place_of_any_other_loads_or_is_refused(path: Path, hazard: str) -> None:
    for at, line in enumerate(LINES):
        if "=" in line:
            lines = [*LINES[:at], f"{line.partition('=')[0]}= {hazard}", *LINES[at + 1 :]]
            loads_or_is_refused(path, "\n".join(lines).encode())


@settings(max_examples=50)
@given(name=st.text(max_size=60))
def test_no_name_is_anything_but_a_board_or_refused(name: str) -> None:
    try:
        assert load_board(name).name in board_names()
    except ConfigError as error:
        assert str(error)  # noqa: PT017
