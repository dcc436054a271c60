"""Who did what, when: a run's events as rows of spans and marks, for the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from tools.demo.state import level_key
from tools.emulate.scenario_file import Kind


class Band(str, Enum):
    """A time in which a device was not as it should be."""

    AWAY = "away"  # as the aggregator saw it
    CUT = "cut"
    HOT = "hot"
    DISK = "disk"


class Mark(str, Enum):
    """A moment."""

    KILLED = "killed"
    LEFT = "left"
    CRASHED = "crashed"
    MEMORY = "memory"
    LIMITS = "limits"
    FAILED = "failed"


class End(str, Enum):
    """How a task ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    BROKEN = "broken off"
    LATE = "not delivered"


BANDS: Final = {Kind.CUT: Band.CUT, Kind.HOT: Band.HOT, Kind.DISK_FULL: Band.DISK}


@dataclass(slots=True, kw_only=True)
class Task:
    """From the task to the receipt, or to where it broke off; seconds are the boards'."""

    round_id: int
    level: str
    start_s: float
    end_s: float | None = None
    end: End | None = None
    train_s: float = 0.0
    bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Spell:
    """A band; `end_s` is None while it lasts."""

    band: Band
    start_s: float
    end_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Row:
    """One device.

    Attributes:
        level: the largest that it can afford.
        marks: moment, what, and words about it.
    """

    device: str
    board: str = ""
    level: str = ""
    tasks: list[Task] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    marks: list[tuple[float, Mark, str]] = field(default_factory=list)
    up_bytes: int = 0
    down_bytes: int = 0

    @property
    def mishaps(self) -> int:
        """What happened to it, or went wrong with it; that it was offline follows from those."""
        return len(self.marks) + sum(one.band is not Band.AWAY for one in self.spells)

    @property
    def delivered(self) -> int:
        """Tasks whose updates arrived."""
        return sum(task.end is End.DELIVERED for task in self.tasks)

    def open_task(self) -> Task | None:
        """The one that it works on."""
        return next((task for task in reversed(self.tasks) if task.end is None), None)

    def begin(self, band: Band, now_s: float) -> None:
        """A band begins, unless it lasts already."""
        if not any(one.band is band and one.end_s is None for one in self.spells):
            self.spells.append(Spell(band=band, start_s=now_s))

    def finish(self, band: Band, now_s: float) -> None:
        """A band is over."""
        for one in self.spells:
            if one.band is band and one.end_s is None:
                one.end_s = now_s


@dataclass(slots=True, kw_only=True)
class Column:
    """One round, from its opening to its close."""

    round_id: int
    stage: str
    start_s: float
    end_s: float | None = None


class Timeline:
    """Folds a run's events.

    Args:
        devices: name -> board, in the order of the rows.
        scale: board seconds in a second of the host that wrote the events.
    """

    def __init__(self, devices: Mapping[str, str], scale: float) -> None:
        self.rows = {name: Row(device=name, board=board) for name, board in devices.items()}
        self.columns: list[Column] = []
        self.levels: list[str] = []
        self.end_s = 0.0
        self.troubles: list[tuple[float, str]] = []  # of broker and aggregator
        self._scale = scale
        self._handlers: dict[str, Callable[[Mapping[str, Any], float], None]] = {
            "job_started": self._job_started,
            "round_opened": self._round_opened,
            "round_closed": self._round_closed,
            "device_online": self._online,
            "device_offline": self._offline,
            "device_ready": self._ready,
            "task_sent": self._task_sent,
            "update": self._update,
            "device_failed": self._failed,
            "happened": self._happened,
            "over": self._over,
            "client_ended": self._client_ended,
            "memory_kill": self._memory_kill,
            "limits_lost": self._limits_lost,
            "broker_ended": self._trouble,
            "aggregator_ended": self._trouble,
        }

    def fold(self, events: Iterable[Mapping[str, Any]]) -> Timeline:
        """Take in all events, in their order; returns itself."""
        began_s = None
        for event in events:
            host_s = float(event["time_s"])
            began_s = host_s if began_s is None else began_s
            now_s = max(self.end_s, (host_s - began_s) * self._scale)
            self.end_s = now_s
            handler = self._handlers.get(event["event"])
            if handler and ("device" not in event or event["device"] in self.rows):
                handler(event, now_s)
        return self

    def _job_started(self, event: Mapping[str, Any], now_s: float) -> None:
        self.levels = [level_key(level) for level in event["levels"]]
        for row in self.rows.values():
            if not row.spells:
                row.begin(Band.AWAY, 0.0)

    def _round_opened(self, event: Mapping[str, Any], now_s: float) -> None:
        if self.columns and self.columns[-1].end_s is None:
            if self.columns[-1].round_id == event["round"]:
                return
            self.columns[-1].end_s = now_s
        self.columns.append(Column(round_id=event["round"], stage=event["stage"], start_s=now_s))

    def _round_closed(self, event: Mapping[str, Any], now_s: float) -> None:
        for column in self.columns:
            if column.round_id == event["round"]:
                column.end_s = now_s
        for row in self.rows.values():
            figures = event["bytes"].get(row.device, {"up": 0, "down": 0})
            row.up_bytes += figures["up"]
            row.down_bytes += figures["down"]
            for task in row.tasks:
                if task.round_id == event["round"]:
                    task.bytes = figures["up"] + figures["down"]
                    if task.end is None:
                        task.end, task.end_s = End.LATE, now_s

    def _online(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        if not row.spells:
            row.begin(Band.AWAY, 0.0)
        row.finish(Band.AWAY, now_s)

    def _offline(self, event: Mapping[str, Any], now_s: float) -> None:
        self.rows[event["device"]].begin(Band.AWAY, now_s)

    def _ready(self, event: Mapping[str, Any], now_s: float) -> None:
        level = event["level"]
        self.rows[event["device"]].level = "" if level is None else level_key(level)

    def _task_sent(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        self._break_off(row, now_s)
        row.tasks.append(
            Task(round_id=event["round"], level=level_key(event["level"]), start_s=now_s)
        )

    def _update(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        for task in reversed(row.tasks):
            if task.round_id == event["round"]:
                task.end, task.end_s = End.DELIVERED, now_s
                task.train_s = float(event["train_s"]) * self._scale
                return

    def _failed(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        task = row.open_task()
        if task is not None:
            task.end, task.end_s = End.FAILED, now_s
        row.marks.append((now_s, Mark.FAILED, f"gave its task up: {event['reason']}"))

    def _happened(self, event: Mapping[str, Any], now_s: float) -> None:
        row, kind = self.rows[event["device"]], Kind(event["kind"])
        if kind in BANDS:
            row.begin(BANDS[kind], now_s)
        elif kind is Kind.REBOOT:
            self._break_off(row, now_s)
            row.marks.append((now_s, Mark.KILLED, "killed (SIGKILL), and started again"))
        elif kind is Kind.LEAVE:
            self._break_off(row, now_s)
            row.marks.append((now_s, Mark.LEFT, "left"))

    def _over(self, event: Mapping[str, Any], now_s: float) -> None:
        kind = Kind(event["kind"])
        if kind in BANDS:
            self.rows[event["device"]].finish(BANDS[kind], now_s)

    def _client_ended(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        self._break_off(row, now_s)
        text = f"its client ended with {event['exit_code']}: {event['last_line']}"
        row.marks.append((now_s, Mark.CRASHED, text))

    def _memory_kill(self, event: Mapping[str, Any], now_s: float) -> None:
        text = f"{event['processes']} process(es) killed at the memory limit"
        self.rows[event["device"]].marks.append((now_s, Mark.MEMORY, text))

    def _limits_lost(self, event: Mapping[str, Any], now_s: float) -> None:
        row = self.rows[event["device"]]
        self._break_off(row, now_s)
        row.marks.append((now_s, Mark.LIMITS, "its control group went; made anew"))

    def _trouble(self, event: Mapping[str, Any], now_s: float) -> None:
        who = event["event"].split("_")[0]
        self.troubles.append((now_s, f"the {who} ended ({event['exit_code']}), started again"))

    def _break_off(self, row: Row, now_s: float) -> None:
        task = row.open_task()
        if task is not None:
            task.end, task.end_s = End.BROKEN, now_s
