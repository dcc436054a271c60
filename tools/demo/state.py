"""The state of a run, folded from the aggregator's events: what the table and the report show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from statistics import median
from typing import Any

Event = Mapping[str, Any]


class Activity(str, Enum):
    """What a device is doing, as far as the aggregator knows."""

    STARTING = "starting"
    IDLE = "idle"
    TRAINING = "training"
    DECLINED = "declined"
    FAILED = "failed"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes between one device and the broker in one round.

    Attributes:
        up, down: everything, as MQTT PUBLISH packets.
        up_mask, down_mask, down_plan: the encoded masks and the plan within.
        ideal_up, ideal_down: the kept values and dense tensors alone, as the job encodes them.
    """

    up: int = 0
    down: int = 0
    up_mask: int = 0
    down_mask: int = 0
    down_plan: int = 0
    ideal_up: int = 0
    ideal_down: int = 0

    @property
    def total(self) -> int:
        """Both directions."""
        return self.up + self.down

    @property
    def mask(self) -> int:
        """Encoded masks, both directions."""
        return self.up_mask + self.down_mask

    @property
    def is_quiet(self) -> bool:
        """Whether values alone travelled, both ways."""
        return self.ideal_up > 0 and self.mask + self.down_plan == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One closed round; scores by level (`"0.2"`); traffic, and the level trained, by device.

    Attributes:
        loss: of training.
        accuracy: empty where the model's loss knows no right and wrong.
        test_loss: on samples not trained on.
    """

    round_id: int
    stage: str
    wall_s: float
    training_s: float
    overhead_s: float
    updates: int
    cohort: int
    mask_changed: bool
    loss: float | None
    accuracy: dict[str, float]
    test_loss: dict[str, float]
    traffic: dict[str, Traffic]
    levels: dict[str, str]

    @property
    def is_training(self) -> bool:
        """Whether the round trained the model (and not: searched densities, or scored it)."""
        return self.stage == "train"


@dataclass(slots=True, kw_only=True)
class DeviceState:
    """One device: the latest figures, and what is needed for its medians.

    Attributes:
        level: the largest that it can afford, as it said; empty where it declined.
        task_level: the one at which it trains in this round: its own or, in turn, a lower one.
    """

    device: str
    board: str = ""
    activity: Activity = Activity.STARTING
    level: str = ""
    task_level: str = ""
    engine: str = ""
    reason: str = ""
    predicted_peak_mb: float = 0.0
    memory_budget_mb: float = 0.0
    predicted_round_s: float = 0.0
    round_id: int | None = None
    trainer_mb: float = 0.0
    agent_mb: float = 0.0
    peak_mb: float = 0.0
    failures: int = 0
    has_worked: bool = False
    steps_ms: list[float] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def step_ms(self) -> float:
        """Median over the updates so far."""
        return median(self.steps_ms) if self.steps_ms else 0.0


class RunState:
    """Everything known about a run; `apply` folds in one event, unknown ones are ignored."""

    def __init__(self) -> None:
        self.job = ""
        self.method = ""
        self.seed = 0
        self.levels: list[str] = []
        self.total_rounds = 0
        self.num_prunable = 0
        self.num_dense = 0
        self.stage = ""
        self.round_id: int | None = None
        self.waiting = ""  # why the round does not start, and what would let it
        self.devices: dict[str, DeviceState] = {}
        self.rounds: list[RoundRecord] = []
        self.rejected = 0
        self.done = False
        self.final_accuracy: dict[str, float] = {}
        self.final_test_loss: dict[str, float] = {}
        self._unscored: RoundRecord | None = None
        self.evaluated_on = ""
        self.onnx: list[str] = []
        self.time_s = 0.0
        self._round_levels: dict[str, str] = {}
        self._handlers: dict[str, Callable[[Event], None]] = {
            "job_started": self._job_started,
            "device_online": self._device_online,
            "device_offline": self._device_offline,
            "round_opened": self._round_opened,
            "round_waiting": self._round_waiting,
            "device_ready": self._device_ready,
            "task_sent": self._task_sent,
            "update": self._update,
            "device_failed": self._device_failed,
            "rejected": self._rejected,
            "round_closed": self._round_closed,
            "round_scored": self._round_scored,
            "job_done": self._job_done,
        }

    @property
    def accuracy(self) -> dict[str, float]:
        """The final accuracy by level, or the latest one while the job runs."""
        if self.final_accuracy:
            return self.final_accuracy
        return next((one.accuracy for one in reversed(self.rounds) if one.accuracy), {})

    @property
    def test_loss(self) -> dict[str, float]:
        """The final loss by level on samples not trained on, or the latest one."""
        if self.final_test_loss:
            return self.final_test_loss
        return next((one.test_loss for one in reversed(self.rounds) if one.test_loss), {})

    @property
    def training_rounds(self) -> list[RoundRecord]:
        """The closed rounds that trained the model."""
        return [one for one in self.rounds if one.is_training]

    @property
    def num_parameters(self) -> int:
        """Parameters of the dense model."""
        return self.num_prunable + self.num_dense

    def apply(self, event: Event) -> None:
        """Fold in one event."""
        self.time_s = float(event.get("time_s", self.time_s))
        handler = self._handlers.get(event["event"])
        if handler:
            handler(event)

    def device(self, name: str) -> DeviceState:
        """The state of a device, known from now on."""
        return self.devices.setdefault(name, DeviceState(device=name))

    def _job_started(self, event: Event) -> None:
        self.job, self.method, self.seed = event["job"], event["method"], event["seed"]
        self.levels = [level_key(level) for level in event["levels"]]
        self.total_rounds = event["rounds"]
        self.num_prunable, self.num_dense = event["num_prunable"], event["num_dense"]

    def _device_online(self, event: Event) -> None:
        device = self.device(event["device"])
        device.board = event.get("board") or device.board
        device.activity = Activity.IDLE

    def _device_offline(self, event: Event) -> None:
        self.device(event["device"]).activity = Activity.OFFLINE

    def _round_opened(self, event: Event) -> None:
        self.round_id, self.stage, self.waiting = event["round"], event["stage"], ""
        self._round_levels = {}

    def _round_waiting(self, event: Event) -> None:
        way_out = f"; {event['way_out']}" if event["way_out"] else ""
        self.waiting = (
            f"round {event['round']} waits: {event['ready']} of {event['needed']} devices are "
            f"ready{way_out}"
        )

    def _device_ready(self, event: Event) -> None:
        device = self.device(event["device"])
        device.board = event.get("board") or device.board
        device.engine, device.reason = event["engine"], event["reason"]
        device.predicted_peak_mb = event["predicted_peak_mb"]
        device.memory_budget_mb = event["memory_budget_mb"]
        device.predicted_round_s = event["predicted_round_s"]
        declined = event["level"] is None
        device.level = "" if declined else level_key(event["level"])
        device.activity = Activity.DECLINED if declined else Activity.IDLE

    def _task_sent(self, event: Event) -> None:
        device = self.device(event["device"])
        self.waiting = ""
        device.activity, device.has_worked = Activity.TRAINING, True
        device.round_id = event["round"]
        device.task_level = self._round_levels[device.device] = level_key(event["level"])

    def _update(self, event: Event) -> None:
        device = self.device(event["device"])
        device.activity, device.round_id = Activity.IDLE, event["round"]
        device.trainer_mb, device.agent_mb = event["peak_rss_mb"], event["agent_rss_mb"]
        device.peak_mb = max(device.peak_mb, device.trainer_mb + device.agent_mb)
        if event["step_ms"] > 0:
            device.steps_ms.append(event["step_ms"])

    def _device_failed(self, event: Event) -> None:
        device = self.device(event["device"])
        device.activity, device.reason = Activity.FAILED, event["reason"]
        device.failures += 1

    def _rejected(self, event: Event) -> None:
        self.rejected += 1

    def _round_closed(self, event: Event) -> None:
        traffic = {name: _traffic(figures) for name, figures in event["bytes"].items()}
        for name, one in traffic.items():
            self.device(name).traffic = one
        self._unscored = RoundRecord(
            round_id=event["round"],
            stage=event["stage"],
            wall_s=event["wall_s"],
            training_s=event["training_s"],
            overhead_s=event["overhead_s"],
            updates=event["updates"],
            cohort=event["cohort"],
            mask_changed=event["mask_changed"],
            loss=event.get("loss"),
            accuracy={},
            test_loss={},
            traffic=traffic,
            levels=dict(self._round_levels),
        )

    def _round_scored(self, event: Event) -> None:
        """The score of the round that was closed last; the next one is under way already."""
        closed = self._unscored
        if closed is not None and closed.round_id == event["round"]:
            accuracy, loss = _by_level(event["accuracy"]), _by_level(event["test_loss"])
            self.rounds.append(replace(closed, accuracy=accuracy, test_loss=loss))
            self._unscored = None

    def _job_done(self, event: Event) -> None:
        self.done = True
        self.final_accuracy = _by_level(event["accuracy"])
        self.final_test_loss = _by_level(event["test_loss"])
        self.onnx, self.evaluated_on = list(event["onnx"]), event["evaluated_on"]
        for device in self.devices.values():
            if device.activity is Activity.TRAINING:
                device.activity = Activity.IDLE


def level_key(level: float) -> str:
    """A density level as the events' JSON keys spell it."""
    return f"{level:g}"


def score_texts(accuracy: Mapping[str, float], loss: Mapping[str, float]) -> dict[str, str]:
    """By level `83.1 %`, or where no answer is right or wrong `loss 0.0123`."""
    if accuracy:
        return {level: f"{100 * value:.1f} %" for level, value in accuracy.items()}
    return {level: f"loss {value:.4g}" for level, value in loss.items()}


def _by_level(scores: Mapping[str, float]) -> dict[str, float]:
    return {level_key(float(level)): value for level, value in scores.items()}


def _traffic(figures: Mapping[str, int]) -> Traffic:
    names = ("up", "down", "up_mask", "down_mask", "down_plan", "ideal_up", "ideal_down")
    return Traffic(**{name: int(figures[name]) for name in names})
