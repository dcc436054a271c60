"""Whether the kernel still holds a process to the limits of its place."""

from __future__ import annotations

import pytest

from edge_client.emulation.report import Mechanism, Resource
from tools.emulate.held import in_group

PLACE = "fedsparse-1-2-3-4"
FIRST = [f"9:memory:/x/{PLACE}", f"4:cpu,cpuacct:/{PLACE}", "0::/"]
SECOND = [f"0::/user.slice/{PLACE}"]


@pytest.mark.parametrize("resource", [Resource.MEMORY, Resource.CPU])
def test_a_process_in_its_group_is_held(resource: Resource) -> None:
    assert in_group(FIRST, PLACE, resource, Mechanism.CGROUP_1)
    assert in_group(SECOND, PLACE, resource, Mechanism.CGROUP_2)


@pytest.mark.parametrize("resource", [Resource.MEMORY, Resource.CPU])
def test_a_process_in_another_group_is_not(resource: Resource) -> None:
    assert not in_group(FIRST, PLACE, resource, Mechanism.CGROUP_2)
    assert not in_group(["9:memory:/", "4:cpu:/"], PLACE, resource, Mechanism.CGROUP_1)
    assert not in_group(["0::/user.slice"], PLACE, resource, Mechanism.CGROUP_2)
    assert not in_group([], PLACE, resource, Mechanism.CGROUP_1)
