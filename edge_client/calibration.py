"""What a short trainer task measured of one plan on this device, and how it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedsparse.errors import DataError
from fedsparse.wire.messages import is_digest

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The speed of the real kernels on this device, for one plan and one batch size.

    Attributes:
        plan_digest: of the plan that was timed.
        batch_size: samples of a step.
        step_s: level -> wall time of a training step.
        multiply_adds: level -> the cost model's work of that step.
        baseline_bytes: resident memory of a trainer before it holds samples or an engine.
    """

    plan_digest: str
    batch_size: int
    step_s: Mapping[float, float]
    multiply_adds: Mapping[float, int]
    baseline_bytes: int

    def __post_init__(self) -> None:
        if not is_digest(self.plan_digest):
            raise ValueError(f"plan_digest is no SHA-256: {self.plan_digest!r}")
        if self.batch_size < 1 or self.baseline_bytes < 0:
            raise ValueError("batch_size must be positive and baseline_bytes not negative")
        if not self.step_s or self.step_s.keys() != self.multiply_adds.keys():
            raise ValueError("step_s and multiply_adds must hold the same levels, at least one")
        for level, seconds in self.step_s.items():
            if not 0 < level <= 1:
                raise ValueError(f"level {level} is not in (0, 1]")
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"step_s of {level} must be positive, got {seconds}")
            if self.multiply_adds[level] < 1:
                raise ValueError(f"multiply_adds of {level} must be positive")

    @property
    def speeds(self) -> dict[float, float]:
        """Level -> multiply-adds per second, as measured."""
        return {
            level: self.multiply_adds[level] / seconds for level, seconds in self.step_s.items()
        }

    def covers(self, plan_digest: str, batch_size: int, levels: tuple[float, ...]) -> bool:
        """Whether an offer of these needs no new measurement."""
        return (
            (self.plan_digest, self.batch_size) == (plan_digest, batch_size)
            and self.step_s.keys() >= set(levels)
        )  # fmt: skip

    def to_json(self) -> str:
        """A text for the device's store."""
        rows = [
            [level, self.step_s[level], self.multiply_adds[level]]
            for level in sorted(self.step_s, reverse=True)
        ]
        document = {
            "version": VERSION,
            "plan_digest": self.plan_digest,
            "batch_size": self.batch_size,
            "baseline_bytes": self.baseline_bytes,
            "levels": rows,
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else; measure again.
        """
        try:
            document = json.loads(text)
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']!r}")
            return _from_document(document)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"not a calibration, measure again: {error!r}") from error


def _from_document(document: dict[str, Any]) -> Calibration:
    rows = [(float(level), float(step), int(work)) for level, step, work in document["levels"]]
    return Calibration(
        plan_digest=str(document["plan_digest"]),
        batch_size=int(document["batch_size"]),
        baseline_bytes=int(document["baseline_bytes"]),
        step_s={level: step for level, step, _ in rows},
        multiply_adds={level: work for level, _, work in rows},
    )
