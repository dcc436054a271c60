"""When a device may train: hours, battery, temperature, and programs that come first.

A policy is a file of its own (`policy = "policy.toml"` in `client.toml`; docs/budget.md). What
cannot be read - a board without a clock, a sensor that is not there - forbids nothing, unless the
policy says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from edge_client.probe.heat import HeatReading
from edge_client.probe.power import BATTERY, PowerReading

MINUTES: Final = 24 * 60
WINDOW: Final = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
# A board without a battery for its clock wakes up in 1970, or when its image was made.
CLOCK_SET_SINCE: Final = 2026
COLDEST_LIMIT: Final = 20.0
HOTTEST_LIMIT: Final = 120.0
MAX_PROCESSES: Final = 32
MAX_NAME: Final = 64
ALLOW: Final = "allow"
FORBID: Final = "forbid"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursPolicy:
    """Local time of the day, the `[hours]` table; windows such as `22:00-06:30` end before the end.

    Attributes:
        allow: only in these; all day where there are none.
        forbid: never in these.
        when_unknown: `allow` or `forbid` on a board whose clock is not set.
    """

    allow: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    when_unknown: str = ALLOW

    def __post_init__(self) -> None:
        _check_choice(self.when_unknown)
        if not self.minutes:
            raise ValueError("these hours never allow training: leave a window open")

    @property
    def minutes(self) -> frozenset[int]:
        """The minutes of the day that are open."""
        allowed = {one for window in self.allow for one in _minutes(window)}
        forbidden = {one for window in self.forbid for one in _minutes(window)}
        return frozenset((allowed if self.allow else set(range(MINUTES))) - forbidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryPolicy:
    """Training without mains power, the `[battery]` table.

    Attributes:
        allow: whether to train on battery at all.
        min_percent: charge below which not, while on battery.
        when_unknown: `allow` or `forbid` where source or charge cannot be read.
    """

    allow: bool = True
    min_percent: float = 0.0
    when_unknown: str = ALLOW

    def __post_init__(self) -> None:
        _check_choice(self.when_unknown)
        if not 0 <= self.min_percent <= 100:
            raise ValueError(f"min_percent must be 0 to 100, got {self.min_percent:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperaturePolicy:
    """Heat, the `[temperature]` table; a task at work is ended above the limit, too.

    Attributes:
        max_celsius: None has no limit.
        when_unknown: `allow` or `forbid` where no temperature can be read.
    """

    max_celsius: float | None = None
    when_unknown: str = ALLOW

    def __post_init__(self) -> None:
        _check_choice(self.when_unknown)
        limit = self.max_celsius
        if limit is not None and not COLDEST_LIMIT <= limit <= HOTTEST_LIMIT:
            raise ValueError(
                f"max_celsius must be {COLDEST_LIMIT:g} to {HOTTEST_LIMIT:g}, got {limit:g}: "
                "outside of that it never allows training, or never forbids it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesPolicy:
    """Programs that come first, the `[processes]` table: no training while one of `forbid` runs."""

    forbid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.forbid) > MAX_PROCESSES:
            raise ValueError(f"at most {MAX_PROCESSES} processes, got {len(self.forbid)}")
        for name in self.forbid:
            if not 0 < len(name) <= MAX_NAME or "/" in name or not name.isprintable():
                raise ValueError(f"a process is its name as `ps -o comm` shows it, got {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy file; without any table everything is allowed."""

    hours: HoursPolicy = field(default_factory=HoursPolicy)
    battery: BatteryPolicy = field(default_factory=BatteryPolicy)
    temperature: TemperaturePolicy = field(default_factory=TemperaturePolicy)
    processes: ProcessesPolicy = field(default_factory=ProcessesPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a policy is held against.

    Attributes:
        now: local time.
        running: those of the policy's processes that run.
    """

    now: datetime
    heat: HeatReading
    power: PowerReading
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one table says; `because` is for people."""

    rule: str
    allows: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy says of a moment: one ruling for each table that has something to say."""

    rulings: tuple[Ruling, ...] = ()

    @property
    def allows(self) -> bool:
        """Whether training may begin."""
        return all(ruling.allows for ruling in self.rulings)

    @property
    def reason(self) -> str:
        """Why not; empty where it may."""
        against = [one.because for one in self.rulings if not one.allows]
        return f"declined by policy: {'; '.join(against)}" if against else ""


def judge(policy: Policy, moment: Moment) -> Verdict:
    """Whether training may begin now, and why not."""
    rules = (_hours, _battery, _temperature, _processes)
    return Verdict(rulings=tuple(one for rule in rules for one in rule(policy, moment)))


def too_hot(policy: Policy, heat: HeatReading) -> str:
    """Why a task that is at work is to be ended; empty where it may go on."""
    limit = policy.temperature.max_celsius
    if limit is None or heat.celsius is None or heat.celsius <= limit:
        return ""
    return f"stopped by policy: {heat.celsius:.1f} C is above {limit:g} C"


def _hours(policy: Policy, moment: Moment) -> Iterator[Ruling]:
    hours = policy.hours
    if not hours.allow and not hours.forbid:
        return
    if moment.now.year < CLOCK_SET_SINCE:
        because = f"the clock is not set (it says {moment.now.year})"
        yield _unknown("hours", hours.when_unknown, because)
        return
    allows = moment.now.hour * 60 + moment.now.minute in hours.minutes
    windows = [f"allowed {', '.join(hours.allow)}"] if hours.allow else []
    windows += [f"forbidden {', '.join(hours.forbid)}"] if hours.forbid else []
    yield Ruling(
        rule="hours", allows=allows, because=f"it is {moment.now:%H:%M}, {'; '.join(windows)}"
    )


def _battery(policy: Policy, moment: Moment) -> Iterator[Ruling]:
    battery, power = policy.battery, moment.power
    if battery.allow and battery.min_percent <= 0:
        return
    if power.source is None:
        yield _unknown("battery", battery.when_unknown, "the source of power is unknown")
    elif power.source != BATTERY:
        yield Ruling(rule="battery", allows=True, because=f"power from {power.source}")
    elif not battery.allow:
        yield Ruling(rule="battery", allows=False, because="power from battery")
    elif power.battery_percent is None:
        yield _unknown("battery", battery.when_unknown, "the battery's charge is unknown")
    else:
        yield Ruling(
            rule="battery",
            allows=power.battery_percent >= battery.min_percent,
            because=f"battery at {power.battery_percent:.0f} of {battery.min_percent:g} %",
        )


def _temperature(policy: Policy, moment: Moment) -> Iterator[Ruling]:
    limit, celsius = policy.temperature.max_celsius, moment.heat.celsius
    if limit is None:
        return
    if celsius is None:
        because = "the temperature is unknown"
        yield _unknown("temperature", policy.temperature.when_unknown, because)
        return
    yield Ruling(
        rule="temperature", allows=celsius <= limit, because=f"{celsius:.1f} of {limit:g} C"
    )


def _processes(policy: Policy, moment: Moment) -> Iterator[Ruling]:
    if not policy.processes.forbid:
        return
    names = ", ".join(moment.running)
    because = f"{names} {_run(moment.running)}" if names else "none of its processes runs"
    yield Ruling(rule="processes", allows=not names, because=because)


def _run(names: Sequence[str]) -> str:
    return "runs" if len(names) == 1 else "run"


def _unknown(rule: str, choice: str, because: str) -> Ruling:
    return Ruling(rule=rule, allows=choice == ALLOW, because=because)


def _minutes(window: str) -> Iterator[int]:
    """The minutes of a window, which may cross midnight."""
    match = WINDOW.fullmatch(window)
    if match is None:
        raise ValueError(f"a window is written as 22:00-06:30, got {window!r}")
    hours = [int(text) for text in match.groups()]
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if start >= MINUTES or end > MINUTES:
        raise ValueError(f"a day ends at 24:00, got {window!r}")
    if start == end:
        raise ValueError(f"the window {window!r} has no length; a whole day is 00:00-24:00")
    length = end - start if end > start else end - start + MINUTES
    return ((start + minute) % MINUTES for minute in range(length))


def _check_choice(choice: str) -> None:
    if choice not in (ALLOW, FORBID):
        raise ValueError(f"when_unknown must be {ALLOW} or {FORBID}, got {choice!r}")
