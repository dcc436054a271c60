"""What the shipped profiles promise."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from importlib import resources

import pytest

from fedsparse.boards import Board, board_names, load_board
from fedsparse.boards.speed import EFFICIENCY
from fedsparse.config import read_toml

MEMORY_MIB = {
    "raspberry-pi-zero-2w": 512,
    "raspberry-pi-3b-plus": 1024,
    "raspberry-pi-4b-1gb": 1024,
    "raspberry-pi-4b-2gb": 2048,
    "raspberry-pi-4b-4gb": 4096,
    "raspberry-pi-4b-8gb": 8192,
    "raspberry-pi-5-4gb": 4096,
    "raspberry-pi-5-8gb": 8192,
    "raspberry-pi-5-16gb": 16384,
    "jetson-nano": 4096,
    "jetson-orin-nano": 8192,
    "jetson-xavier-nx": 8192,
    "jetson-agx-orin-32gb": 32768,
    "jetson-agx-orin-64gb": 65536,
}
CORES = {"jetson-orin-nano": 6, "jetson-xavier-nx": 6, "jetson-agx-orin-32gb": 8,
         "jetson-agx-orin-64gb": 12}  # fmt: skip
FAMILIES = ("raspberry-pi-4b-", "raspberry-pi-5-", "jetson-agx-orin-")


def test_every_promised_board_is_shipped_and_no_other() -> None:
    assert set(board_names()) == set(MEMORY_MIB)


@pytest.mark.parametrize("name", board_names())
def test_a_shipped_profile_is_named_as_its_file_and_can_be_emulated(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.memory.available_mib is not None
    assert board.speed is not None


@pytest.mark.parametrize("name", board_names())
def test_memory_and_cores_are_those_of_the_board(name: str) -> None:
    board = load_board(name)
    assert board.memory.total_mib.value == MEMORY_MIB[name]
    assert board.cores.value == CORES.get(name, 4)
    assert board.cpu.startswith(f"{board.cores.value:g}x ")


@pytest.mark.parametrize("name", board_names())
def test_no_shipped_speed_or_free_memory_claims_to_be_measured(name: str) -> None:
    board = load_board(name)
    for figure in (board.speed, board.memory.available_mib):
        assert figure is not None
        assert figure.basis == "estimated"


@pytest.mark.parametrize("name", board_names())
def test_no_shipped_speed_is_computed_by_hand(name: str) -> None:
    assert load_board(name).compute.multiply_adds_per_s is None


@pytest.mark.parametrize("name", board_names())
def test_free_memory_follows_from_the_subtraction_in_its_source(name: str) -> None:
    figure = load_board(name).memory.available_mib
    assert figure is not None
    numbers = [int(word) for word in figure.source.replace("(5 %)", "").split() if word.isdigit()]
    whole, *taken = numbers[:3]
    assert whole == MEMORY_MIB[name]
    assert figure.value == whole - sum(taken)


@pytest.mark.parametrize("name", board_names())
def test_no_figure_is_of_the_future(name: str) -> None:
    today = datetime.now(tz=timezone.utc).date().isoformat()
    dates = [figure.date for _, figure in load_board(name).figures() if figure is not None]
    assert max(dates) <= today


@pytest.mark.parametrize("family", FAMILIES)
def test_boards_that_differ_in_memory_differ_in_nothing_else_that_decides(family: str) -> None:
    boards = [load_board(name) for name in board_names() if name.startswith(family)]
    assert len(boards) > 1
    first = boards[0]
    for board in boards:
        assert board.speed == first.speed
        assert board.network == first.network
        assert board.memory.memcpy_bytes_per_s == first.memory.memcpy_bytes_per_s
        assert replace(board.compute, hpl_flops=None) == replace(first.compute, hpl_flops=None)


def test_the_boards_are_ordered_by_speed_as_their_cores_are() -> None:
    names = ("raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "jetson-xavier-nx", "jetson-nano",
             "raspberry-pi-4b-1gb", "jetson-orin-nano", "jetson-agx-orin-64gb",
             "raspberry-pi-5-4gb")  # fmt: skip
    values = [figure.value for figure in (load_board(name).speed for name in names) if figure]
    assert len(values) == len(names)
    assert values == sorted(values)


@pytest.mark.parametrize(
    "name",
    [name for name in board_names() if name.startswith(("raspberry-pi-4b", "raspberry-pi-5"))],
)
def test_the_efficiency_taken_is_what_linpack_reaches(name: str) -> None:
    board = load_board(name)
    compute = board.compute
    if compute.hpl_flops is None:
        assert name == "raspberry-pi-4b-1gb"
        return
    assert compute.clock_hz is not None
    assert compute.fma_lanes_per_cycle is not None
    doubles = compute.fma_lanes_per_cycle.value / 2
    peak = board.cores.value * compute.clock_hz.value * doubles * 2
    assert compute.hpl_flops.value / peak == pytest.approx(EFFICIENCY["out-of-order"], rel=0.25)


def test_wifi_that_nobody_measured_is_absent() -> None:
    network = load_board("raspberry-pi-zero-2w").network
    assert network.up_bytes_per_s is None
    assert network.down_bytes_per_s is None


def test_storage_that_nobody_measured_is_absent() -> None:
    assert all(load_board(name).storage.write_bytes_per_s is None for name in board_names())


@pytest.mark.parametrize("name", board_names())
def test_a_shipped_profile_can_be_loaded_by_its_path_too(name: str) -> None:
    with resources.as_file(resources.files("profiles") / f"{name}.toml") as path:
        assert load_board(path) == load_board(name)
        assert isinstance(load_board(path), Board)
        assert read_toml(path)["name"] == name
