from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from edge_client.calibration import Calibration, LevelTiming
from edge_client.host import EmulatedHost, RealHost, open_host
from edge_client.probe.link import LinkEstimate
from edge_client.probe.memory import MemoryReading
from fedsparse.boards import Board, Compute, Figure, Memory, Network, load_board
from fedsparse.errors import ConfigError

MIB = 2**20


def timing(step_s: float, multiply_adds: int) -> LevelTiming:
    return LevelTiming(
        step_s={32: step_s},
        multiply_adds=multiply_adds,
        engine="sparse",
        threads=1,
        shared_work=8_000_000,
        layers={},
    )


CALIBRATION = Calibration(
    plan_digest="ab" * 32,
    batch_size=32,
    levels={0.2: timing(0.004, 8_000_000), 0.1: timing(0.002, 5_000_000)},
    baseline_bytes=0,
)


def real(available_mib: int = 100_000) -> RealHost:
    size = available_mib * MIB
    return RealHost(
        memory=lambda: MemoryReading(total_bytes=size, available_bytes=size, source="system")
    )


def figure(value: float) -> Figure:
    return Figure(value=value, basis="specified", source="sheet", date="2026-01")


def test_the_real_host_reports_what_the_trainer_measured() -> None:
    reading = real().speed(CALIBRATION)
    assert reading.basis == "measured"
    assert reading.at(0.2) == pytest.approx(2e9)
    assert reading.at(0.1) == pytest.approx(2.5e9)


def test_the_real_link_is_unknown_until_something_was_transferred() -> None:
    link = real().link()
    assert (link.up_bytes_per_s, link.down_bytes_per_s, link.basis) == (None, None, "unknown")


def test_the_real_link_is_what_transfers_were_measured_to_be() -> None:
    estimates = [LinkEstimate(up=(1e6,)), LinkEstimate(up=(1e6,), down=(4e6,))]
    host = RealHost(link=lambda: estimates.pop(0))
    link = host.link()
    assert (link.up_bytes_per_s, link.down_bytes_per_s, link.basis) == (1e6, None, "measured")
    assert host.link().down_bytes_per_s == 4e6


def test_a_profile_stands_in_for_the_measured_link_too() -> None:
    host = open_host("raspberry-pi-4b-2gb", link=lambda: LinkEstimate(up=(1e3,)))
    assert host.link().up_bytes_per_s == 125_000_000
    assert open_host(None, link=lambda: LinkEstimate(up=(1e3,))).link().up_bytes_per_s == 1e3


def test_an_emulated_host_answers_from_the_profile() -> None:
    board = load_board("raspberry-pi-4b-2gb")
    host = EmulatedHost(board, real())
    assert (host.board, host.emulated) == ("raspberry-pi-4b-2gb", True)
    assert board.memory.available_mib is not None
    assert host.memory().available_bytes == board.memory.available_mib.value * MIB
    assert host.memory().total_bytes == 2048 * MIB
    assert host.memory().basis == "estimated"
    assert host.link().up_bytes_per_s == 125_000_000
    assert host.link().basis == "specified"


def test_an_emulated_speed_does_not_depend_on_this_machine() -> None:
    board = load_board("raspberry-pi-zero-2w")
    assert board.speed is not None
    expected = board.speed.value
    reading = EmulatedHost(board, real()).speed(CALIBRATION)
    assert dict(reading.multiply_adds_per_s) == {0.2: expected, 0.1: expected}
    assert reading.basis == "estimated"


def test_a_machine_smaller_than_the_board_limits_it() -> None:
    host = EmulatedHost(load_board("raspberry-pi-5-8gb"), real(available_mib=300))
    assert host.memory().available_bytes == 300 * MIB
    assert host.memory().source == "system"


def test_a_profile_without_a_speed_cannot_be_emulated() -> None:
    board = Board(
        name="mine",
        title="Mine",
        cpu="",
        cores=figure(1),
        memory=Memory(total_mib=figure(512), available_mib=figure(300)),
    )
    with pytest.raises(ConfigError, match=r"'mine' cannot be emulated.*multiply_adds_per_s"):
        EmulatedHost(board, real())


def test_a_link_known_in_one_direction_keeps_the_other_unknown() -> None:
    board = Board(
        name="mine",
        title="Mine",
        cpu="",
        cores=figure(1),
        memory=Memory(total_mib=figure(512), available_mib=figure(300)),
        compute=Compute(multiply_adds_per_s=figure(1e9)),
        network=Network(down_bytes_per_s=figure(1e6)),
    )
    link = EmulatedHost(board, real()).link()
    assert (link.up_bytes_per_s, link.down_bytes_per_s) == (None, 1e6)
    assert link.basis == "specified"


def test_a_client_opens_the_host_that_its_configuration_names() -> None:
    assert not open_host(None).emulated
    assert open_host("jetson-nano").board == "jetson-nano"
    with pytest.raises(ConfigError, match="did you mean 'jetson-nano'"):
        open_host("jetson-nan")


def test_a_profile_beside_the_configuration_is_found_from_anywhere(tmp_path: Path) -> None:
    shipped = resources.files("profiles") / "jetson-nano.toml"
    (tmp_path / "jetson-nano.toml").write_bytes(shipped.read_bytes())
    assert open_host("jetson-nano.toml", folder=tmp_path).board == "jetson-nano"
    with pytest.raises(ConfigError, match=r"jetson-nano\.toml: no such file"):
        open_host("jetson-nano.toml", folder=tmp_path / "elsewhere")


def test_the_agents_side_imports_no_numpy() -> None:
    modules = (
        "edge_client.host, edge_client.budget.decide, edge_client.calibration, "
        "edge_client.probe.memory, "
        "edge_client.probe.link, edge_client.probe.command, edge_client.probe.bandwidth, "
        "edge_client.data.header, edge_client.data.holdout, fedsparse.boards"
    )
    code = f"import sys, {modules}; sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
