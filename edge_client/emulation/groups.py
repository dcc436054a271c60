"""The control groups of one place: memory and processor in one (version 2) or in several."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.emulation.group import Group, make_group
from edge_client.emulation.hierarchy import ROOT, Hierarchy, legacy, unified
from edge_client.emulation.report import Mechanism

# What a group of version 1 or 2 must have to limit anything.
LIMIT_FILES: Final = {
    (1, "memory"): "memory.limit_in_bytes",
    (1, "cpu"): "cpu.cfs_quota_us",
    (1, "cpuacct"): "cpuacct.usage",
    (2, "memory"): "memory.max",
    (2, "cpu"): "cpu.max",
}
ACCOUNTING: Final = "cpuacct"
KINDS: Final = {2: Mechanism.CGROUP_2, 1: Mechanism.CGROUP_1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What could be made.

    Attributes:
        by_controller: `memory`, `cpu` and, of version 1, `cpuacct` -> the group that has it.
        refusals: controller -> why a better version was not used, the better first.
    """

    by_controller: dict[str, Group]
    refusals: dict[str, tuple[str, ...]]

    def each(self) -> list[Group]:
        """Every group once."""
        return list({group.folder: group for group in self.by_controller.values()}.values())


def open_groups(
    name: str,
    controllers: Collection[str],
    *,
    avoid: Collection[Mechanism] = (),
    root: Path = ROOT,
) -> Groups:
    """Make the groups that limit `controllers`, as far as kernel and permissions allow.

    Args:
        name: of the groups.
        controllers: among `memory` and `cpu`.
        avoid: versions that are not to be used.
        root: the folder that stands for `/`.
    """
    found: dict[str, Group] = {}
    refusals: dict[str, list[str]] = {controller: [] for controller in controllers}
    for mechanism in (Mechanism.CGROUP_2, Mechanism.CGROUP_1):
        wanted = [controller for controller in controllers if controller not in found]
        if not wanted:
            break
        if mechanism in avoid:
            made: dict[str, Group] = {}
            why = dict.fromkeys(wanted, "was not to be used")
        elif mechanism is Mechanism.CGROUP_2:
            made, why = _unified_group(name, wanted, root)
        else:
            made, why = _legacy_groups(name, wanted, root)
        found |= made
        for controller, reason in why.items():
            refusals[controller].append(f"{mechanism.value}: {reason}")
    return Groups(
        by_controller=found,
        refusals={controller: tuple(reasons) for controller, reasons in refusals.items()},
    )


def _unified_group(
    name: str, wanted: list[str], root: Path
) -> tuple[dict[str, Group], dict[str, str]]:
    """One group for all controllers; else for each alone, since one process joins only one."""
    hierarchy = unified(root)
    if hierarchy is None:
        return {}, dict.fromkeys(wanted, "not mounted")
    why = dict.fromkeys(wanted, "")
    for together in [wanted, *([one] for one in wanted if len(wanted) > 1)]:
        group = _first_with(hierarchy, name, together)
        if isinstance(group, Group):
            rest = {one: reason for one, reason in why.items() if one not in together}
            return dict.fromkeys(together, group), {
                one: reason or "not in the same group" for one, reason in rest.items()
            }
        why |= dict.fromkeys(together, group)
    return {}, why


def _legacy_groups(
    name: str, wanted: list[str], root: Path
) -> tuple[dict[str, Group], dict[str, str]]:
    found: dict[str, Group] = {}
    why: dict[str, str] = {}
    for controller in wanted:
        group = _legacy_group(name, controller, root)
        if isinstance(group, Group):
            found[controller] = group
        else:
            why[controller] = group
    if "cpu" in found:  # how much is used is another controller's business, often mounted with it
        accounting = _legacy_group(name, ACCOUNTING, root)
        if isinstance(accounting, Group):
            found[ACCOUNTING] = accounting
    return found, why


def _legacy_group(name: str, controller: str, root: Path) -> Group | str:
    hierarchy = legacy(controller, root)
    if hierarchy is None:
        return "not mounted"
    return _first_with(hierarchy, name, [controller])


def _first_with(hierarchy: Hierarchy, name: str, controllers: list[str]) -> Group | str:
    """The first group, from this process's own upwards, that can limit all of `controllers`."""
    refused: list[str] = []
    for parent in hierarchy.candidates():
        if hierarchy.version == 2 and (missing := _not_delegated(parent, controllers)):
            refused.append(missing)
            continue
        group = make_group(parent, name, hierarchy.version)
        if isinstance(group, str):
            refused.append(group)
            continue
        reason = _unlimited(group, controllers)
        if reason is None:
            return group
        group.remove()
        refused.append(reason)
    return "; ".join(dict.fromkeys(refused)) or "none is seen here"


def _not_delegated(parent: Path, controllers: list[str]) -> str | None:
    """Turn controllers on for the groups below `parent`: None, or why that is not possible."""
    offered = _words(parent / "cgroup.controllers")
    lacking = [one for one in controllers if one not in offered]
    if lacking:
        return f"{parent}: the kernel or the group above gives it no {' and '.join(lacking)}"
    switch = parent / "cgroup.subtree_control"
    for controller in controllers:
        if controller in _words(switch):
            continue
        try:
            with switch.open("r+", encoding="ascii") as file:
                file.write(f"+{controller}")
        except OSError as error:
            return f"{parent}: {controller} cannot be given to groups below it: {error.strerror}"
    return None


def _unlimited(group: Group, controllers: list[str]) -> str | None:
    """None where the group can limit what it is for, or why not."""
    for controller in controllers:
        limit = group.folder / LIMIT_FILES[group.version, controller]
        try:
            with limit.open("r+", encoding="ascii"):
                continue
        except OSError as error:
            return f"{limit}: {error.strerror}"
    return None


def _words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="ascii").split()
    return []
