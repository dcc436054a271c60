"""A board's own measurements become its profile: all measured, nothing guessed, nothing lost."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probe_document import DOCUMENT, data

from edge_client.host import EmulatedHost, RealHost
from edge_client.probe.memory import MemoryReading
from fedsparse.boards import Board, load_board
from fedsparse.errors import ConfigError
from tools.profiles.document import parse_document
from tools.profiles.making import MadeBoard, make_board
from tools.profiles.writing import write_profile

TODAY = date(2026, 4, 30)
MIB = 2**20


def timed(rate: float) -> dict[str, float]:
    return {"density": 0.1, "multiply_adds_per_s": rate}


def make(name: str = "", day: str = "", **changes: Any) -> MadeBoard:  # noqa: ANN401
    return make_board(parse_document(data(**changes), "probe.json"), TODAY, name=name, day=day)


def write(board: Board, folder: Path) -> Path:
    path = folder / f"{board.name}.toml"
    write_profile(board, path, TODAY)
    return path


def test_every_figure_is_measured_and_names_command_board_and_day() -> None:
    figures = [figure for _, figure in make().board.figures() if figure is not None]
    assert len(figures) == 10
    for figure in figures:
        assert figure.basis == "measured"
        assert figure.source.startswith("edge-client profile on Raspberry Pi 4 Model B Rev 1.5")
        assert figure.date == "2026-03-05"


def test_figures_are_those_of_the_document() -> None:
    board = make().board
    values = {key: figure.value for key, figure in board.figures() if figure is not None}
    assert values == {
        "cores": 4,
        "memory.total_mib": 1875,
        "memory.available_mib": 1660,
        "memory.memcpy_bytes_per_s": 2.412e9,
        "memory.memset_bytes_per_s": 2.9e9,
        "compute.multiply_adds_per_s": 1.8e9,  # the root of 2.7 x 1.2; density 0.05 does not count
        "compute.clock_hz": 1.8e9,
        "storage.write_bytes_per_s": 1.823e7,
        "network.up_bytes_per_s": 3.1e6,
        "network.down_bytes_per_s": 4.5e6,
    }
    assert board.speed == board.compute.multiply_adds_per_s
    assert board.cpu == "4x Cortex-A72, 1.8 GHz"
    assert (board.name, board.title) == (
        "raspberry-pi-4-model-b-rev-1-5",
        "Raspberry Pi 4 Model B Rev 1.5",
    )


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    board = make().board
    path = write(board, tmp_path)
    assert load_board(path, today=TODAY) == board
    assert path.read_text("utf-8").startswith("# Written by `fedsparse profiles new`")


def test_a_measured_board_can_be_emulated_and_is_not_called_an_estimate(tmp_path: Path) -> None:
    board = load_board(write(make().board, tmp_path), today=TODAY)
    reading = MemoryReading(total_bytes=2**40, available_bytes=2**40, source="system")
    host = EmulatedHost(board, RealHost(lambda: reading))
    assert (host.memory().available_bytes, host.memory().basis) == (1660 * MIB, "measured")
    assert host.link().basis == "measured"


def test_what_the_board_did_not_know_is_left_out_and_said() -> None:
    made = make(
        kernel_speed=None, memory__available_bytes=None, link=None, storage__write_bytes_per_s=None,
        memory_bandwidth=None, cores__clusters=[], heat=None,
    )  # fmt: skip
    known = [key for key, figure in made.board.figures() if figure is not None]
    assert known == ["cores", "memory.total_mib"]
    assert made.board.cpu == "aarch64"
    assert made.notes == (
        "unknown and left out: memory.available_mib, memory.memcpy_bytes_per_s, "
        "compute.multiply_adds_per_s, storage.write_bytes_per_s, network.up_bytes_per_s, "
        "network.down_bytes_per_s",
        "without available memory and speed, the board cannot be emulated",
    )


def test_a_board_that_does_not_name_itself_takes_a_name_from_the_user() -> None:
    board = make(name="attic", board__model=None).board
    assert (board.name, board.title) == ("attic", "unnamed aarch64")
    assert board.cores.source.startswith("edge-client profile on unnamed aarch64: ")


def test_a_board_that_knew_all_leaves_nothing_to_say() -> None:
    assert make().notes == ()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"cores__usable": 2}, "2 of 4 cores were usable"),
        ({"cores__quota": 1.5}, "a quota of 1.5 processors was in force"),
        ({"memory__source": "cgroup v2"}, "memory was limited by cgroup v2"),
        (
            {"heat__throttled": True},
            "the processor was slowed down meanwhile (for reasons unknown)",
        ),
        (
            {"heat": {"throttled": True, "reasons": ["under-voltage", "too hot"]}},
            "the processor was slowed down meanwhile (under-voltage, too hot)",
        ),
        (
            {"unknown": ["power source: none", "kernel speed: 3 of 9\ncases: ran out of time"]},
            "the board says: kernel speed: 3 of 9 cases: ran out of time",
        ),
    ],
)
def test_what_kept_the_board_from_its_best_is_said(changes: dict[str, Any], note: str) -> None:
    assert make(**changes).notes == (note,)


def test_the_cores_are_those_that_could_be_used() -> None:
    assert make(cores__usable=3).board.cores.value == 3
    assert make(cores__usable=None).board.cores.value == 4


def test_cores_of_several_kinds_are_all_named_and_the_slowest_sets_the_clock() -> None:
    clusters = [
        {"cpus": [0, 1], "max_mhz": 2000, "part": "Cortex-A76"},
        {"cpus": [2, 3, 4, 5], "max_mhz": 1500, "part": None},
    ]
    board = make(cores__clusters=clusters).board
    assert board.cpu == "2x Cortex-A76, 2 GHz + 4x unknown core, 1.5 GHz"
    assert board.compute.clock_hz is not None
    assert board.compute.clock_hz.value == 1.5e9


def test_a_clock_that_was_never_set_takes_a_day_from_the_user() -> None:
    for wrong in ("1970-01-01T00:00:07Z", "2026-07-01T00:00:00Z", "soon", None):
        with pytest.raises(ConfigError, match=r"was the board's clock not set.* --date"):
            make(measured_at=wrong)
        assert make(day="2026-04-29", measured_at=wrong).board.cores.date == "2026-04-29"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 2}, "format 2, and format 1 is read here: .*the same release"),
        ({"format": True}, "format True"),
        ({"cores__usable": 0}, "cores: value must be positive"),
        ({"cores__usable": 2.5}, "cores must be a whole number"),
        ({"cores__usable": "four"}, "cores: usable: expected a number, got 'four'"),
        ({"cores__clusters": {}}, "cores: clusters: expected a list"),
        ({"cores__clusters": [4]}, r"cores: clusters\[0\]: expected a table, got 4"),
        ({"memory": []}, r"memory: expected a table, got \[\]"),
        ({"memory__total_bytes": None}, "memory: total_bytes is unknown: without it"),
        ({"memory__total_bytes": 5 * MIB}, "total_mib 5 is absurd: expected 128 to"),
        ({"memory__available_bytes": 2**31}, "available_mib 2048 exceeds total_mib 1875"),
        ({"memory__available_bytes": True}, "expected a number, got True"),
        ({"memory__total_bytes": 10**400}, "memory: total_bytes: expected a finite number"),
        ({"memory_bandwidth__copy_bytes_per_s": float("nan")}, "expected a finite number, got nan"),
        ({"kernel_speed": [timed(0)]}, "kernel_speed: a rate is not positive"),
        ({"kernel_speed": [timed(9)]}, "multiply_adds_per_s 9 is absurd"),
        ({"link__up_bytes_per_s": -3}, "up_bytes_per_s: value must be positive"),
        ({"board__model": 4}, "board: model: expected a text, got 4"),
        ({"board__model": "\u2028"}, "does not name itself; give it a --name"),
        ({"board__model": None}, "does not name itself; give it a --name"),
        ({"heat": {"throttled": True, "reasons": "hot"}}, "reasons: expected a list, got 'hot'"),
        ({"board__emulated": True}, "a program plays this board's processor"),
        ({"heat__throttled": "no"}, "throttled: expected true or false, got 'no'"),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_is_refused_by_its_key(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^probe\.json: .*{complaint}|^probe\.json: {complaint}"
    ):
        make(**changes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "empty: did `edge-client profile --json` fail"),
        (b" \n", "empty"),
        (data()[:300], r"not the whole of a JSON document: .*line 1, column \d+"),
        (data() + b"}", "not the whole of a JSON document: Extra data"),
        (b"{\xff}", "not a JSON document"),
        (b"[" * 100_000, "not a JSON document"),
        (b"1" * 5000, "not a JSON document"),
        (b"[]", "it has no 'format'"),
        (b'{"board": {}}', "it has no 'format'"),
        (b"ssh: connect to host pi port 22: No route to host", "not the whole of a JSON document"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_document_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"probe\.json: .*{complaint}|probe\.json: {complaint}"):
        parse_document(text, "probe.json")


def test_a_boards_name_cannot_smuggle_lines_into_the_file(tmp_path: Path) -> None:
    board = make(name="pi", board__model='Pi"\n[cores]\nvalue = 9\x1b[31m \ud800').board
    assert board.title == 'Pi" [cores] value = 9 [31m'
    assert load_board(write(board, tmp_path), today=TODAY) == board


def test_a_file_that_is_there_is_overwritten_only_by_force(tmp_path: Path) -> None:
    made = make(name="pi").board
    path = write(made, tmp_path)
    other = make(name="pi", cores__usable=2).board
    with pytest.raises(ConfigError, match="exists already; give another --output, or --force"):
        write(other, tmp_path)
    assert load_board(path, today=TODAY) == made
    write_profile(other, path, TODAY, force=True)
    assert load_board(path, today=TODAY) == other


@pytest.mark.parametrize(
    ("name", "file", "complaint"),
    [
        ("pi", "pie.toml", "rename the file to pi.toml"),
        ("pi", "pi.json", r"the file of a profile ends with \.toml"),
        ("jetson-nano", "jetson-nano.toml", "is a shipped board with other figures"),
    ],
)
def test_a_file_that_would_not_load_is_never_written(
    tmp_path: Path, name: str, file: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        write_profile(make(name=name).board, tmp_path / file, TODAY)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/pi\.toml: cannot be written"):
        write_profile(make(name="pi").board, tmp_path / "file" / "pi.toml", TODAY)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found = [path] if path else []
    for key, one in inner:
        found += _paths(one, (*path, key))
    return found


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(_paths(DOCUMENT)), value=JSON_VALUES)
def test_any_value_anywhere_makes_a_profile_that_loads_or_is_refused(
    tmp_path: Path, path: tuple[str | int, ...], value: object
) -> None:
    changed: Any = json.loads(data())
    table = changed
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    try:
        document = parse_document(json.dumps(changed).encode(), "probe.json")
        made = make_board(document, TODAY, name="pi")
        write_profile(made.board, tmp_path / "pi.toml", TODAY, force=True)
    except ConfigError as error:
        assert str(error).startswith("probe.json: ")  # noqa: PT017
    else:
        assert load_board(tmp_path / "pi.toml", today=TODAY) == made.board
