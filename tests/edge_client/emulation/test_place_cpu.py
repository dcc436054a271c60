"""The processor time that a process really gets.

Nobody may ever get more; less, only while other work on the machine takes from everybody.
"""

from __future__ import annotations

import subprocess

import pytest
from places import BUSY, HOST, TRIES, python
from real_groups import GROUPS, require_groups

from edge_client.emulation.confine import confine
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource
from edge_client.emulation.run import run

MOST = 1.12
LEAST = 0.4
# One child computes, one thread computes: all count together.
FAMILY = f"""
import subprocess, sys, threading, time
began, used = time.monotonic(), time.process_time()
child = subprocess.Popen([sys.executable, "-c", {BUSY!r}, sys.argv[1]], stdout=subprocess.PIPE)
def work():
    while time.monotonic() - began < float(sys.argv[1]):
        pass
thread = threading.Thread(target=work)
thread.start()
thread.join()
own = (time.process_time() - used) / (time.monotonic() - began)
print(own + float(child.communicate()[0]))
"""


def gets(place: Place, share: float, code: str = BUSY, seconds: float = 1.5) -> None:
    """Hold what a busy process gets against its share: never more, and not always less."""
    for _ in range(TRIES):
        got = float(run(place, python(code, seconds)).stdout)
        assert got < MOST * share
        if got > LEAST * share:
            return
    raise AssertionError(f"{got} instead of {share} of a processor, {TRIES} times")


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_busy_process_gets_its_quota(share: float) -> None:
    with confine(cpu=share) as place:
        require_groups(place, Resource.CPU)
        gets(place, share)
        usage = place.usage()
    assert usage.throttled_s is not None
    assert usage.throttled_s > 0
    assert usage.cpu_s is not None
    assert usage.cpu_s > LEAST * share * 1.5


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_busy_process_gets_as_much_by_a_duty_cycle(share: float) -> None:
    with confine(cpu=share, avoid=GROUPS) as place:
        applied = place.report().of(Resource.CPU)
        assert (applied.mechanism, applied.approximate) == (Mechanism.DUTY_CYCLE, True)
        gets(place, share)
        usage = place.usage()
    assert usage.throttled_s is not None
    assert usage.throttled_s > 0
    assert usage.cpu_s is not None
    assert usage.cpu_s > LEAST * share * 1.5


def test_children_and_threads_share_one_quota() -> None:
    with confine(cpu=0.2) as place:
        require_groups(place, Resource.CPU)
        gets(place, 0.2, FAMILY)


def test_children_and_threads_share_one_duty_cycle() -> None:
    with confine(cpu=0.2, avoid=GROUPS) as place:
        gets(place, 0.2, FAMILY)


@pytest.mark.parametrize("avoid", [(), GROUPS])
def test_the_speed_may_change_while_it_holds(avoid: tuple[Mechanism, ...]) -> None:
    with confine(cpu=0.4, avoid=avoid) as place:
        if not avoid:
            require_groups(place, Resource.CPU)
        place.change_speed(0.25)
        assert place.report().of(Resource.CPU).parameters["factor"] == 0.25
        gets(place, 0.1)


def test_a_very_small_share_takes_a_longer_period_and_still_holds() -> None:
    with confine(cpu=0.01) as place:
        require_groups(place, Resource.CPU)
        parameters = place.report().of(Resource.CPU).parameters
        assert (parameters["quota_us"], parameters["period_us"]) == (1000, 100_000)
        gets(place, 0.01, seconds=4)


def test_an_idle_process_is_not_stopped() -> None:
    idle = "import time\nfor _ in range(50): time.sleep(0.01)\nprint('done')"
    with confine(cpu=0.3, avoid=GROUPS) as place:
        process = place.start(python(idle), stdout=subprocess.PIPE, text=True)
        assert process.communicate()[0] == "done\n"
        throttled_s = place.usage().throttled_s
    assert throttled_s is not None
    assert throttled_s < 0.3  # but for its start


def test_a_host_that_is_too_slow_says_by_how_much_the_scale_is_too_high() -> None:
    with pytest.raises(EmulationError, match=r"lower the time scale by 5\.00 times"):
        confine("raspberry-pi-zero-2w", scale=100, host=HOST)


def test_more_cores_than_the_board_has_are_refused() -> None:
    with pytest.raises(EmulationError, match="has 4 cores, not 5"):
        confine("raspberry-pi-zero-2w", cores=5, host=HOST)


def test_a_speed_of_nothing_is_refused() -> None:
    with confine(cpu=0.5) as place, pytest.raises(EmulationError, match="more than 0"):
        place.change_speed(0)
