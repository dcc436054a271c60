"""The processor: a quota of the kernel's scheduler; else processes are stopped and continued."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from edge_client.emulation.duty_cycle import DutyCycle
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.group import Group
from edge_client.emulation.groups import ACCOUNTING, KINDS, Groups
from edge_client.emulation.report import Applied, Mechanism, Parameter, Resource

# As measured (docs/emulation.md): shorter periods lose time at each end, longer ones hold a
# process back for longer at a time.
PERIOD_US: Final = 20_000
LEAST_QUOTA_US: Final = 1_000  # the kernel's
LONGEST_PERIOD_US: Final = 1_000_000  # the kernel's
LEAST_SHARE: Final = LEAST_QUOTA_US / LONGEST_PERIOD_US


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuShare:
    """Processor time that a place gets, in processors of this host.

    Attributes:
        per_core: of one of this host's for each core of the board that is used.
        cores: of the board that the place may use. Quotas bound the sum: one thread alone may use
            what all cores have.
    """

    per_core: float
    cores: int = 1

    def __post_init__(self) -> None:
        if self.cores < 1 or not self.per_core >= LEAST_SHARE:
            raise EmulationError(
                f"a share of {self.per_core:.2g} of a processor for {self.cores} core(s) cannot be "
                f"kept: at least {LEAST_SHARE:g} and one core; raise the time scale"
            )
        have = len(os.sched_getaffinity(0))
        if self.per_core > 1 or self.total > have:
            most = min(1.0, have / self.cores)
            raise EmulationError(
                f"the board would need {self.per_core:.2f} processors of this host for each of "
                f"{self.cores} core(s), and there is at most {most:.2f}: lower the time scale by "
                f"{self.per_core / most:.2f} times or more"
            )

    @property
    def total(self) -> float:
        """For all cores."""
        return self.per_core * self.cores


class CpuHold(Protocol):
    """What limits the processor."""

    @property
    def applied(self) -> Applied:
        """How."""
        ...

    @property
    def script(self) -> str:
        """Shell words that hold the shell, and what it becomes, to more than its group does."""
        ...

    def change(self, factor: float) -> None:
        """From now on, `factor` times the share that it began with."""
        ...

    def watch(self, pid: int) -> None:
        """A process has just started in the place."""
        ...

    def used_s(self) -> float | None:
        """Processor time so far; None where the mechanism does not count."""
        ...

    def throttled_s(self) -> float | None:
        """How long processes were held back; None where the mechanism does not count."""
        ...

    def close(self) -> None:
        """Nothing is held any more."""
        ...


def hold_cpu(
    share: CpuShare | None,
    groups: Groups,
    *,
    place: str,
    facts: dict[str, Parameter],
    reason: str = "no limit was asked for",
    avoid: Collection[Mechanism] = (),
) -> CpuHold:
    """Limit processor time by the best there is.

    Args:
        share: None = no limit.
        groups: control groups, one with the controller `cpu` where it could be made.
        place: the name that marks its processes.
        facts: where the share is from, for the report.
        reason: why there is no limit, where there is none.
        avoid: mechanisms not to use.

    Raises:
        EmulationError: the kernel refuses the quota.
    """
    refusals = groups.refusals.get("cpu", ())
    if share is None:
        return _Unlimited(facts, (reason,))
    if "cpu" in groups.by_controller:
        return _Quota(groups, share, facts, refusals)
    if Mechanism.DUTY_CYCLE in avoid:
        refusals = (*refusals, f"{Mechanism.DUTY_CYCLE.value}: was not to be used")
        return _Unlimited(facts, refusals)
    return _Stopping(place, share, facts, refusals)


class _Unlimited:
    """No limit."""

    script = ""

    def __init__(self, facts: dict[str, Parameter], reasons: tuple[str, ...]) -> None:
        self.applied = Applied(
            resource=Resource.CPU,
            mechanism=Mechanism.NOTHING,
            parameters=facts,
            passed_over=reasons,
        )

    def change(self, factor: float) -> None:
        raise EmulationError(
            f"processor time is not limited here, so it cannot become {factor:g} times as much"
        )

    def watch(self, pid: int) -> None:
        pass

    def used_s(self) -> float | None:
        return None

    def throttled_s(self) -> float | None:
        return None

    def close(self) -> None:
        pass


class _Quota:
    """The scheduler's bandwidth control."""

    script = ""

    def __init__(
        self,
        groups: Groups,
        share: CpuShare,
        facts: dict[str, Parameter],
        refusals: tuple[str, ...],
    ) -> None:
        self._group = groups.by_controller["cpu"]
        self._accounting = groups.by_controller.get(ACCOUNTING, self._group)
        self._share = share
        self._facts = facts
        self._refusals = refusals
        self._factor = 1.0
        self._used_s = self._throttled_s = 0.0
        self.change(1.0)

    @property
    def applied(self) -> Applied:
        period_us, quota_us = self._period_us, self._quota_us
        return Applied(
            resource=Resource.CPU,
            mechanism=KINDS[self._group.version],
            parameters={
                "share": quota_us / period_us,
                "cores": self._share.cores,
                "factor": self._factor,
                "quota_us": quota_us,
                "period_us": period_us,
                **self._facts,
            },
            passed_over=self._refusals,
        )

    def change(self, factor: float) -> None:
        share = _changed(self._share, factor).total
        period_us = min(LONGEST_PERIOD_US, max(PERIOD_US, round(LEAST_QUOTA_US / share)))
        quota_us = max(LEAST_QUOTA_US, round(share * period_us))
        try:
            self._set(period_us, quota_us)
        except OSError as error:
            raise EmulationError(
                f"the kernel refuses {quota_us} of {period_us} us of processor time "
                f"({error.strerror}): a group above may allow less"
            ) from error
        self._factor, self._period_us, self._quota_us = factor, period_us, quota_us

    def watch(self, pid: int) -> None:
        pass

    def used_s(self) -> float | None:
        self._used_s = max(self._used_s, _used_s(self._accounting) or 0.0)
        return self._used_s

    def throttled_s(self) -> float | None:
        if self._group.version == 2:
            throttled = (self._group.number("cpu.stat", "throttled_usec") or 0) / 1e6
        else:
            throttled = (self._group.number("cpu.stat", "throttled_time") or 0) / 1e9
        self._throttled_s = max(self._throttled_s, throttled)
        return self._throttled_s

    def close(self) -> None:
        pass

    def _set(self, period_us: int, quota_us: int) -> None:
        if self._group.version == 2:
            self._group.write("cpu.max", f"{quota_us} {period_us}")
            return
        self._group.write("cpu.cfs_quota_us", -1)  # each change alone may ask too much
        self._group.write("cpu.cfs_period_us", period_us)
        self._group.write("cpu.cfs_quota_us", quota_us)


class _Stopping:
    """A duty cycle, on as many of this host's processors as the board has cores in use."""

    def __init__(
        self, place: str, share: CpuShare, facts: dict[str, Parameter], refusals: tuple[str, ...]
    ) -> None:
        self._share = share
        self._facts = facts
        self._refusals = refusals
        self._factor = 1.0
        self._processors = _some_processors(place, share.cores)
        self._cycle = DutyCycle(place, share.total)

    @property
    def pacer_pid(self) -> int:
        """Of the process that stops and continues."""
        return self._cycle.pid

    @property
    def applied(self) -> Applied:
        return Applied(
            resource=Resource.CPU,
            mechanism=Mechanism.DUTY_CYCLE,
            parameters={
                "share": _changed(self._share, self._factor).total,
                "cores": self._share.cores,
                "factor": self._factor,
                "affinity": self._processors or "no program 'taskset' (util-linux)",
                **self._facts,
            },
            approximate=True,
            passed_over=self._refusals,
        )

    @property
    def script(self) -> str:
        if not self._processors:
            return ""
        return f"taskset -cp {self._processors} $$ > /dev/null || exit 125"

    def change(self, factor: float) -> None:
        self._cycle.change(_changed(self._share, factor).total)
        self._factor = factor

    def watch(self, pid: int) -> None:
        self._cycle.watch(pid)

    def used_s(self) -> float | None:
        return self._cycle.used_s

    def throttled_s(self) -> float | None:
        return self._cycle.throttled_s

    def close(self) -> None:
        self._cycle.close()


def _changed(share: CpuShare, factor: float) -> CpuShare:
    if factor <= 0:
        raise EmulationError(f"a speed of {factor:g} times the board's is none: give more than 0")
    return CpuShare(per_core=share.per_core * factor, cores=share.cores)


def _used_s(group: Group) -> float | None:
    if group.version == 2:
        used_us = group.number("cpu.stat", "usage_usec")
        return None if used_us is None else used_us / 1e6
    used_ns = group.number("cpuacct.usage")
    return None if used_ns is None else used_ns / 1e9


def _some_processors(place: str, count: int) -> str:
    """Processors that this process may use, others for each place as far as there are."""
    if shutil.which("taskset") is None:
        return ""
    have = sorted(os.sched_getaffinity(0))
    first = int(place.rpartition("-")[2]) * count % len(have) if place[-1:].isdigit() else 0
    return ",".join(str(have[(first + i) % len(have)]) for i in range(min(count, len(have))))
