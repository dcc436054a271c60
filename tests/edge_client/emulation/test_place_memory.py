"""Memory that a process really may use, and what happens past it."""

from __future__ import annotations

import signal

import pytest
from places import MIB, TAKE, python
from real_groups import GROUPS, require_groups

from edge_client.emulation.address_space import overhead_bytes
from edge_client.emulation.confine import confine
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.report import Mechanism, Resource
from edge_client.emulation.run import run

NUMPY_TAKE = """
import sys
import numpy
block = numpy.ones(int(sys.argv[1]), numpy.uint8)
print("took it")
"""


def test_the_kernel_kills_a_process_past_the_limit_and_that_is_known() -> None:
    with confine(memory=96 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        small = run(place, python(TAKE, 32 * MIB))
        assert (small.exit_code, small.stdout) == (0, "took it\n")
        assert small.killed_for_memory is False
        large = run(place, python(TAKE, 200 * MIB))
        assert large.exit_code == -signal.SIGKILL
        assert large.killed_for_memory is True
        assert place.usage().memory_kills == 1


def test_a_kill_of_another_kind_is_not_one_for_memory() -> None:
    with confine(memory=96 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        killed = run(place, python("import os; os.kill(os.getpid(), 9)"))
        assert killed.exit_code == -signal.SIGKILL
        assert killed.killed_for_memory is False


def test_a_child_that_the_kernel_kills_leaves_its_parent_alive() -> None:
    # As a trainer and its agent: the killer takes the largest.
    parent = f"""
import subprocess, sys
child = subprocess.run([sys.executable, "-c", {TAKE!r}, "200000000"])
print(child.returncode)
"""
    with confine(memory=96 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        outcome = run(place, python(parent))
        assert (outcome.exit_code, outcome.stdout) == (0, "-9\n")
        assert outcome.killed_for_memory is True


def test_the_peak_is_that_of_a_run_and_of_all_processes_together() -> None:
    with confine(memory=256 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        first = run(place, python(TAKE, 100 * MIB))
        second = run(place, python(TAKE, 20 * MIB))
        if place.report().of(Resource.MEMORY).mechanism is Mechanism.CGROUP_1:
            assert second.peak_memory_bytes is not None
            assert 20 * MIB <= second.peak_memory_bytes < 60 * MIB
        assert first.peak_memory_bytes is not None
        assert 100 * MIB <= first.peak_memory_bytes < 140 * MIB


def test_the_limit_may_change_while_it_holds() -> None:
    with confine(memory=96 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        place.change_memory(256 * MIB)
        assert run(place, python(TAKE, 150 * MIB)).exit_code == 0
        place.change_memory(64 * MIB)
        assert run(place, python(TAKE, 150 * MIB)).killed_for_memory is True


def test_without_control_groups_the_address_space_is_limited_beyond_what_numpy_maps() -> None:
    assert overhead_bytes() > 20 * MIB  # as measured; it is of numpy's libraries and stacks
    with confine(memory=100 * MIB, avoid=GROUPS) as place:
        applied = place.report().of(Resource.MEMORY)
        assert applied.mechanism is Mechanism.RLIMIT
        assert applied.approximate
        assert applied.parameters["overhead_bytes"] == overhead_bytes()
        assert len(applied.passed_over) == len(GROUPS)
        small = run(place, python(NUMPY_TAKE, 50 * MIB))
        assert (small.exit_code, small.stdout) == (0, "took it\n")
        large = run(place, python(NUMPY_TAKE, 150 * MIB))
        assert large.exit_code == 1
        assert "MemoryError" in large.stderr
        assert large.killed_for_memory is None  # nobody counts refusals


def test_without_control_groups_the_peak_is_seen_by_looking_often() -> None:
    wait = TAKE + "\nimport time; time.sleep(0.3)"
    with confine(memory=200 * MIB, avoid=GROUPS) as place:
        outcome = run(place, python(wait, 80 * MIB))
        assert outcome.peak_memory_bytes is not None
        assert 80 * MIB <= outcome.peak_memory_bytes < 120 * MIB


def test_a_limit_in_which_nothing_starts_is_refused() -> None:
    with pytest.raises(EmulationError, match="nothing runs in 1000 bytes"):
        confine(memory=1000)


def test_no_limit_is_reported_as_none() -> None:
    with confine() as place:
        assert place.report().of(Resource.MEMORY).mechanism is Mechanism.NOTHING
        assert run(place, python(TAKE, 64 * MIB)).exit_code == 0
        with pytest.raises(EmulationError, match="not limited"):
            place.change_memory(MIB)
