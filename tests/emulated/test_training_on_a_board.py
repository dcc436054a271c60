"""Real training steps at a board's speed, and in its memory."""

from __future__ import annotations

import pytest
from emulated_runs import train, trained

from edge_client.emulation.board_limits import speed_of
from edge_client.emulation.device import Device
from edge_client.emulation.report import Mechanism

SECONDS = 2.0
GROUPS = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
# The kernels do more or less work per second in one model than in the next, by some ten per cent;
# other work on the machine takes from everybody.
MOST = 1.3
LEAST = 0.4
TRIES = 5


def trains_at(device: Device, factor: float) -> None:
    """Hold the board's speed against its profile's: never more, and not always less."""
    for _ in range(TRIES):
        outcome = device.run(train("watch", SECONDS))
        assert outcome.exit_code == 0, outcome.stderr
        run, expected = trained(outcome.stdout), speed_of(device.board)
        assert expected is not None
        board_s = device.place.scale.board_s(run.seconds)
        share = run.multiply_adds / board_s / expected.value / factor
        assert share < MOST
        if share > LEAST:
            return
    raise AssertionError(f"{share} of the profile's speed, {TRIES} times")


@pytest.mark.device("raspberry-pi-zero-2w", scale=4)
def test_a_board_trains_as_fast_as_its_profile_says(device: Device) -> None:
    trains_at(device, 1.0)


@pytest.mark.device("raspberry-pi-zero-2w", scale=4, avoid=GROUPS)
def test_a_board_trains_as_fast_by_a_duty_cycle(device: Device) -> None:
    trains_at(device, 1.0)


@pytest.mark.device("raspberry-pi-zero-2w", scale=4)
def test_a_hot_board_trains_at_half_its_speed(device: Device) -> None:
    device.place.change_speed(0.5)
    trains_at(device, 0.5)


@pytest.mark.device("raspberry-pi-zero-2w", cpu=None, memory=24 * 2**20)
def test_training_that_does_not_fit_is_killed_or_refused(device: Device) -> None:
    outcome = device.run(train("cifar10", 60))
    assert outcome.exit_code != 0
    assert outcome.killed_for_memory in (True, None)
