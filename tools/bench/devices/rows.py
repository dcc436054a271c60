"""What a run says of its predictions: read from the files that it left."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.budget.document import read_document
from edge_client.calibration import Calibration
from fedsparse.errors import DataError
from tools.bench.devices.cases import DEVICE
from tools.bench.tolerance import error, memory_holds, time_holds
from tools.emulate.limits_table import cells

MB: Final = 1e6
TRAIN: Final = "train"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one device; seconds are this host's, as its clock shows them.

    Attributes:
        predicted_s: of the answer to its offer.
        measured_s: from the round's first task to the update, as the aggregator saw them.
        agent_mb, trainer_mb: resident at their highest; 1e6 bytes.
    """

    number: int
    stage: str
    level: float
    predicted_s: float
    measured_s: float
    agent_mb: float
    trainer_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One board and one model; MB are 1e6 bytes, seconds this host's.

    Attributes:
        level: that the device chose for most rounds; None = it trained none.
        predicted_peak_mb, peak_mb: of agent and trainer together, at that level.
        predicted_increase_mb, increase_mb: the same without what agent and trainer have before
            there are samples and an engine. Predictions of memory are without correction by what
            earlier rounds took.
        predicted_round_s, round_s: medians over the rounds of training at that level, each
            prediction made before its round.
        limits: of memory, processor and link, each with its mechanism and basis.
        killed: processes that the kernel killed at the memory limit; None is unknown.
        died: how often the client ended.
        broken: tasks that failed, or whose update did not come in time.
        rounds: all of them, stage 1 as well.
        reason: the last decision.
        error: what broke the run off, or why there are no figures; empty where all is well.
    """

    board: str
    model: str
    level: float | None
    predicted_peak_mb: float
    peak_mb: float
    predicted_increase_mb: float
    increase_mb: float
    predicted_round_s: float
    round_s: float
    time_scale: float
    limits: Mapping[str, str]
    killed: int | None
    died: int
    broken: int
    rounds: tuple[Round, ...]
    reason: str
    error: str = ""

    @property
    def memory_error(self) -> float:
        """How far the predicted increase is above the measured one, as a share of that."""
        return error(self.predicted_increase_mb, self.increase_mb)

    @property
    def time_error(self) -> float:
        """As `memory_error`, of the round's time."""
        return error(self.predicted_round_s, self.round_s)

    @property
    def memory_holds(self) -> bool:
        """Whether the predicted memory is as near as it must be."""
        return memory_holds(self.predicted_increase_mb, self.increase_mb)

    @property
    def time_holds(self) -> bool:
        """Whether the predicted time is as near as it must be."""
        return time_holds(self.predicted_round_s, self.round_s)

    @property
    def promise_holds(self) -> bool:
        """Whether nothing was killed, and every task was done in time."""
        return self.killed == 0 and not (self.died or self.broken or self.error)

    @property
    def holds(self) -> bool:
        """All of it."""
        return self.promise_holds and (
            self.level is None or (self.memory_holds and self.time_holds)
        )

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        names = ("memory_error", "memory_holds", "time_error", "time_holds", "promise_holds")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def failed_row(board: str, model: str, error: str) -> Row:
    """Of a run that could not even begin."""
    return Row(
        board=board, model=model, level=None, predicted_peak_mb=0.0, peak_mb=0.0,
        predicted_increase_mb=0.0, increase_mb=0.0, predicted_round_s=0.0, round_s=0.0,
        time_scale=0.0, limits={}, killed=None, died=0, broken=0, rounds=(), reason="", error=error,
    )  # fmt: skip


def read_row(folder: Path, board: str, model: str, *, error: str = "") -> Row:
    """What the device `board` of a run predicted and took.

    Args:
        folder: of the run (docs/emulate.md).
        board, model: how the row calls them.
        error: what broke the run off, or empty.
    """
    events = [one for one in read_events(folder) if one.get("device") == DEVICE]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    device = next(one for one in summary["emulation"]["devices"] if one["id"] == DEVICE)
    store = folder / "devices" / DEVICE / "store"
    decision = read_document(store / "decision.json") or {}
    rounds = tuple(rounds_of(events))
    trained = [one for one in rounds if one.stage == TRAIN]
    level = statistics.mode(one.level for one in trained) if trained else None
    same = [one for one in trained if one.level == level]
    agent_mb, predicted_mb = _predicted(decision, level)
    baseline_mb = _baseline_mb(store)
    memory, processor, link = cells(device)
    usage = device["usage"]
    return Row(
        board=board,
        model=model,
        level=level,
        predicted_peak_mb=predicted_mb,
        peak_mb=max((one.agent_mb + one.trainer_mb for one in same), default=0.0),
        predicted_increase_mb=predicted_mb - agent_mb - baseline_mb if same else 0.0,
        increase_mb=max((one.trainer_mb - baseline_mb for one in same), default=0.0),
        predicted_round_s=_median([one.predicted_s for one in same]),
        round_s=_median([one.measured_s for one in same]),
        time_scale=summary["emulation"]["time_scale"],
        limits={"memory": memory, "processor": processor, "link": link},
        killed=usage.get("memory_kills"),
        died=device["client_ended"],
        broken=_broken(events),
        rounds=rounds,
        reason=str(decision.get("reason", "")),
        error=error or _why_nothing(events, level),
    )


def read_events(folder: Path) -> list[Event]:
    """The diary of a run."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line]


def rounds_of(events: Sequence[Event]) -> Iterator[Round]:
    """Every update of a device, with the answer and the task before it."""
    ready: Event = {}
    sent: Event = {}
    for event in events:
        if event["event"] == "device_ready":
            ready = event
        elif event["event"] == "task_sent":
            sent = event if event["round"] != sent.get("round") else sent
        elif event["event"] == "update" and ready and sent:
            yield Round(
                number=event["round"],
                stage=event["stage"],
                level=event["level"],
                predicted_s=ready["predicted_round_s"],
                measured_s=event["time_s"] - sent["time_s"],
                agent_mb=event["agent_rss_mb"],
                trainer_mb=event["peak_rss_mb"],
            )


def _broken(events: Sequence[Event]) -> int:
    """Tasks without an update."""
    sent = {one["round"] for one in events if one["event"] == "task_sent"}
    return len(sent - {one["round"] for one in events if one["event"] == "update"})


def _why_nothing(events: Sequence[Event], level: float | None) -> str:
    """Why there are no figures, unless the device declined: that is an answer."""
    answers = [one["level"] for one in events if one["event"] == "device_ready"]
    if level is not None or (answers and answers[-1] is None):
        return ""
    return "it took part and trained nothing" if answers else "it gave no answer"


def _predicted(decision: Mapping[str, Any], level: float | None) -> tuple[float, float]:
    """MB of the agent, and of agent and trainer at a level, before any correction."""
    rows = [one for one in decision.get("rows", ()) if one["level"] == level]
    if not rows:
        return 0.0, 0.0
    means = decision["means"]
    agent_mb, peak_mb = means["agent_bytes"] / MB, rows[0]["peak_bytes"] / MB
    return agent_mb, agent_mb + (peak_mb - agent_mb) / means["correction"]["memory_factor"]


def _baseline_mb(store: Path) -> float:
    """Of a trainer before it holds samples or an engine; of the latest calibration."""
    files = sorted((store / "calibrations").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        return 0.0
    try:
        return Calibration.from_json(files[-1].read_bytes()).baseline_bytes / MB
    except DataError:
        return 0.0


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
