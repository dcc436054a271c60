"""The time scale of a fleet, and fleets that a host cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fleet_files import fleet_from, fleet_with

from edge_client.emulation.host_speed import given_speed
from edge_client.emulation.scale import TimeScale
from fedsparse.errors import ConfigError
from tools.emulate.layout import host_deadline_s, keepalive_s
from tools.emulate.pace import FLEETS_SHARE, Machine, find_pace

GIB = 2**30
BOARD = 'board = "raspberry-pi-5-8gb"'


def machine(speed: float = 24e9, *, processors: int = 2, memory: int = 32 * GIB) -> Machine:
    return Machine(
        processors=processors, memory_bytes=memory, free_bytes=memory, speed=given_speed(speed)
    )


def test_the_whole_fleet_fits_the_processors_and_the_fastest_board_fits_one(
    tmp_path: Path,
) -> None:
    for processors in (1, 2, 16):
        pace = find_pace(fleet_from(tmp_path), machine(processors=processors))
        assert pace.processors is not None
        assert pace.processors <= FLEETS_SHARE * processors
        fastest = pace.scale.factor * 7.68e9 / 24e9
        assert fastest <= 1
        assert pace.processors > 0.85 * FLEETS_SHARE * processors or fastest > 0.85
        assert f"{pace.scale.factor:g}" in pace.why


def test_a_scale_that_is_chosen_is_never_above_ten(tmp_path: Path) -> None:
    assert find_pace(fleet_from(tmp_path), machine(9e11)).scale.factor == 10


def test_the_files_scale_is_kept(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, "seed = 5", "time_scale = 1.5")
    pace = find_pace(fleet, machine())
    assert pace.scale.factor == 1.5
    assert "as the fleet file says" in pace.why


def test_a_scale_that_is_too_fast_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"too fast for this host.*at most 3.1 fits"):
        find_pace(fleet_with(tmp_path, "seed = 5", "time_scale = 50.0"), machine())


def test_a_scale_at_which_a_board_gets_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"too slow.*at least"):
        find_pace(fleet_with(tmp_path, "seed = 5", "time_scale = 0.002"), machine())


def test_a_board_with_more_memory_than_the_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'shelf'.* give the group a memory_mib"):
        find_pace(fleet_from(tmp_path), machine(memory=4 * GIB))
    capped = fleet_with(tmp_path, BOARD, f"{BOARD}\nmemory_mib = 1000.0")
    find_pace(capped, machine(memory=4 * GIB))


def test_more_memory_than_the_board_leaves_is_refused(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, BOARD, f"{BOARD}\nmemory_mib = 8100.0")
    with pytest.raises(ConfigError, match="more than the board leaves to programs, 8016"):
        find_pace(fleet, machine())


def test_more_devices_than_memory_holds_are_refused(tmp_path: Path) -> None:
    capped = f"{BOARD}\nmemory_mib = 100.0\ncount = 60"
    fleet = fleet_with(tmp_path, BOARD, capped)
    with pytest.raises(ConfigError, match=r"62 devices need .* take fewer devices"):
        find_pace(fleet, machine(memory=3 * GIB))


def test_a_device_sees_the_same_spare_time_at_every_scale(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, "deadline_s = 90.0", "deadline_s = 32.0")
    for factor in (0.5, 1.0, 8.0):
        scale = TimeScale(factor=factor)
        assert host_deadline_s(fleet, scale) == pytest.approx(2.0 + 30.0 / factor)
        measured = replace(fleet, figures="measured")  # it learns how long a start takes
        assert host_deadline_s(measured, scale) == pytest.approx(32.0 / factor)


def test_signs_of_life_are_never_more_frequent_than_allowed() -> None:
    assert keepalive_s(TimeScale(factor=1.0)) == 60
    assert keepalive_s(TimeScale(factor=100.0)) == 5


def test_a_deadline_shorter_than_a_start_is_as_short_on_this_host(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, "deadline_s = 90.0", "deadline_s = 1.0")
    assert host_deadline_s(fleet, TimeScale(factor=0.5)) == 2.0
    assert host_deadline_s(fleet, TimeScale(factor=4.0)) == 0.25
