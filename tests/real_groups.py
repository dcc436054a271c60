"""What tests of limits require of the machine: control groups."""

from __future__ import annotations

from typing import Final

from missing_tool import leave_out

from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource

GROUPS: Final = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)


def require_groups(place: Place, *resources: Resource) -> None:
    """Leave the test out where no control group limits these; in CI, fail."""
    for resource in resources:
        applied = place.report().of(resource)
        if applied.mechanism not in GROUPS:
            place.close()
            leave_out(f"control groups cannot be made here (run as root): {applied}")
