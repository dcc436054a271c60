"""What the diary says of answers, updates and rounds: messages to plain numbers with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from aggregator.norms import Norms
from aggregator.tasks import Round
from fedsparse.wire.messages import Ready, Stage, Update

MB: Final = 1e6
MAX_MISSING: Final = 8  # devices that are named


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
        updates: that were folded.
        measured: of each update since this process began.
        cohort: how many devices had a task.
        mask_changed: whether the shared masks are other ones in the next round.
        loss: mean training loss.
        norms: by level, how far the updates moved the values.
        traffic: bytes by device (aggregator/traffic.py).
    """

    now: Round
    wall_s: float
    updates: int
    measured: tuple[Measured, ...]
    cohort: int
    mask_changed: bool
    loss: float
    norms: Mapping[float, Sequence[Norms]]
    traffic: dict[str, dict[str, int]]

    def fields(self) -> dict[str, Any]:
        """The entry in the diary; overhead is the wall time beside the longest training.

        `change_norm` is the median length of a change at each level, where that was measured.
        """
        training_s = max((one.train_s for one in self.measured), default=0.0)
        return {
            "round": self.now.round_id,
            "stage": self.now.stage.value,
            "wall_s": round(self.wall_s, 4),
            "training_s": round(training_s, 4),
            "overhead_s": round(self.wall_s - training_s, 4),
            "updates": self.updates,
            "cohort": self.cohort,
            "mask_changed": self.mask_changed,
            "loss": round(self.loss, 5),
            "change_norm": {
                f"{level:g}": float(f"{median(one.trained for one in found):.4g}")
                for level, found in sorted(self.norms.items(), reverse=True)
            },
            "bytes": self.traffic,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A round that does not start.

    Attributes:
        now: which round.
        needed: how many devices must be ready.
        answers: of all devices that are online; None has not answered yet.
        salient: whether the method's stage 1 asks for the saliency of all weights.
    """

    now: Round
    needed: int
    answers: Mapping[str, Ready | None]
    salient: bool

    def fields(self) -> dict[str, Any]:
        """The entry in the diary: whom the round lacks, why, and what would let it start."""
        return {
            "round": self.now.round_id,
            "stage": self.now.stage.value,
            "ready": len(self.answers) - len(self._missing),
            "needed": self.needed,
            "not_ready": dict(list(self._missing.items())[:MAX_MISSING]),
            "way_out": self._way_out(),
        }

    def line(self) -> str:
        """The same for the log."""
        fields = self.fields()
        missing = "; ".join(f"{device}: {why}" for device, why in fields["not_ready"].items())
        way_out = f" way_out={fields['way_out']!r}" if fields["way_out"] else ""
        return (
            f"round={fields['round']} waiting=yes ready={fields['ready']} "
            f"needed={fields['needed']} not_ready={missing!r}{way_out}"
        )

    @property
    def _missing(self) -> dict[str, str]:
        return {
            device: answer.reason if answer else "no answer yet"
            for device, answer in sorted(self.answers.items())
            if answer is None or answer.level is None
        }

    def _way_out(self) -> str:
        """Empty as long as devices that have not answered may be enough."""
        declined = sum(one is not None and one.level is None for one in self.answers.values())
        if len(self.answers) < self.needed:
            return f"{len(self.answers)} devices are online: start more, or lower min_devices"
        if len(self.answers) - declined >= self.needed:
            return ""
        if self.now.stage is Stage.SENSE and self.salient:
            fewer = ", lower sense_devices" if self.needed > 1 else ""
            return (
                f"stage 1 needs {self.needed} that can hold the dense model: give devices more "
                f"memory{fewer}, or take a method that does without, such as spdst"
            )
        return (
            "a lower level, a smaller batch_size or a longer deadline_s lets more devices take "
            "part; min_devices says how many must"
        )


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
