"""What the diary says of answers, updates and rounds: messages to plain numbers with units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aggregator.tasks import Round
from fedsparse.wire.messages import Ready, Update

MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds that one device spent on its task."""

    train_s: float
    trainer_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """A closed round.

    Attributes:
        now: which round.
        wall_s: from its offer until the next one can go out.
        measured: of each update.
        cohort: how many devices had a task.
        mask_changed: whether the shared masks are other ones in the next round.
        loss: mean training loss.
        traffic: bytes by device (aggregator/traffic.py).
    """

    now: Round
    wall_s: float
    measured: tuple[Measured, ...]
    cohort: int
    mask_changed: bool
    loss: float
    traffic: dict[str, dict[str, int]]

    def fields(self) -> dict[str, Any]:
        """The entry in the diary; overhead is the wall time beside the longest training."""
        training_s = max((one.train_s for one in self.measured), default=0.0)
        return {
            "round": self.now.round_id,
            "stage": self.now.stage.value,
            "wall_s": round(self.wall_s, 4),
            "training_s": round(training_s, 4),
            "overhead_s": round(self.wall_s - training_s, 4),
            "updates": len(self.measured),
            "cohort": self.cohort,
            "mask_changed": self.mask_changed,
            "loss": round(self.loss, 5),
            "bytes": self.traffic,
        }


def measured(update: Update) -> Measured:
    """The seconds in an update."""
    return Measured(train_s=update.train_s, trainer_s=update.trainer_s)


def ready_fields(ready: Ready) -> dict[str, Any]:
    """A device's choice, and the figures behind it."""
    return {
        "round": ready.round_id,
        "board": ready.board,
        "level": ready.level,
        "engine": ready.engine,
        "reason": ready.reason,
        "predicted_peak_mb": round(ready.predicted_peak_bytes / MB, 2),
        "memory_budget_mb": round(ready.memory_budget_bytes / MB, 2),
        "predicted_round_s": round(ready.predicted_round_s, 3),
    }


def update_fields(update: Update) -> dict[str, Any]:
    """What a device measured of its task."""
    return {
        "round": update.round_id,
        "stage": update.stage.value,
        "level": update.level,
        "num_examples": update.num_examples,
        "step_ms": round(update.step_ms, 3),
        "train_s": round(update.train_s, 4),
        "trainer_s": round(update.trainer_s, 4),
        "peak_rss_mb": round(update.peak_rss_bytes / MB, 2),
        "agent_rss_mb": round(update.agent_rss_bytes / MB, 2),
        "loss": round(update.loss, 5),
    }


def waiting(round_id: int, answers: Mapping[str, Ready | None]) -> str:
    """Whom a round lacks that does not start: one line of the answers of all who are online."""
    missing = [
        f"{device}: {answer.reason if answer else 'no answer yet'}"
        for device, answer in sorted(answers.items())
        if answer is None or answer.level is None
    ]
    ready = len(answers) - len(missing)
    return f"round={round_id} waiting=yes ready={ready} not_ready={'; '.join(missing[:8])!r}"
