"""Real training steps at a board's speed, and in its memory."""

from __future__ import annotations

import pytest
from emulated_runs import train, trained

from edge_client.emulation.board_limits import speed_of
from edge_client.emulation.device import Device
from edge_client.emulation.report import Mechanism

SECONDS = 2.0
GROUPS = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
# The kernels do a few per cent more or less work per second in one model than in the next, and
# other work on the machine takes from everybody.
MOST = 1.3
LEAST = 0.5


def speed_on(device: Device) -> float:
    """Multiply-adds per second of the board, as a share of what its profile says."""
    outcome = device.run(train("watch", SECONDS))
    assert outcome.exit_code == 0, outcome.stderr
    run = trained(outcome.stdout)
    expected = speed_of(device.board)
    assert expected is not None
    return run.multiply_adds / device.place.scale.board_s(run.seconds) / expected.value


@pytest.mark.device("raspberry-pi-zero-2w", scale=4)
def test_a_board_trains_as_fast_as_its_profile_says(device: Device) -> None:
    assert LEAST < speed_on(device) < MOST


@pytest.mark.device("raspberry-pi-zero-2w", scale=4, avoid=GROUPS)
def test_a_board_trains_as_fast_by_a_duty_cycle(device: Device) -> None:
    assert LEAST < speed_on(device) < MOST


@pytest.mark.device("raspberry-pi-zero-2w", scale=4)
def test_a_hot_board_trains_at_half_its_speed(device: Device) -> None:
    device.place.change_speed(0.5)
    assert LEAST / 2 < speed_on(device) < MOST / 2


@pytest.mark.device("raspberry-pi-zero-2w", cpu=None, memory=24 * 2**20)
def test_training_that_does_not_fit_is_killed_or_refused(device: Device) -> None:
    outcome = device.run(train("cifar10", 60))
    assert outcome.exit_code != 0
    assert outcome.killed_for_memory in (True, None)
