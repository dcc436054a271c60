"""What a short trainer task measured of one plan on this device, and how it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_client.kept import kept_document
from edge_client.runtime.setup import ENGINES, EngineSetup
from fedsparse.plan import Plan
from fedsparse.wire.messages import is_digest

VERSION: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTiming:
    """One weight tensor's own kernels in a training step.

    Attributes:
        kept: weights that were kept.
        sparse_s: with the sparse kernels, which take time in proportion to what is kept.
        dense_s: with the dense ones, for which it makes no difference.
    """

    kept: int
    sparse_s: float
    dense_s: float

    def __post_init__(self) -> None:
        if self.kept < 0 or not (_is_time(self.sparse_s) and _is_time(self.dense_s)):
            raise ValueError(f"a layer's timing of {self.sparse_s} and {self.dense_s} s")

    def prefers_dense(self, kept: int) -> bool:
        """Whether the dense kernels are the faster ones where `kept` weights are."""
        return self.dense_s * max(1, self.kept) < self.sparse_s * kept


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTiming:
    """How a level is trained fastest here, and how long that takes.

    Attributes:
        step_s: micro-batch -> wall time of a training step of the whole batch; the largest is the
            batch itself. A smaller one never takes less time than a larger one.
        multiply_adds: the cost model's work of the step, the batch in one piece.
        engine, threads, shared_work: as `EngineSetup` has them.
        layers: name of a weight tensor -> its timing; empty for an engine without a choice.
        evolve_s: wall time of one drop-and-grow, with all that the engine does for another mask;
            0 where nobody measured it.
    """

    step_s: Mapping[int, float]
    multiply_adds: int
    engine: str
    threads: int
    shared_work: int
    layers: Mapping[str, LayerTiming]
    evolve_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.evolve_s) and self.evolve_s >= 0):
            raise ValueError(f"a drop-and-grow of {self.evolve_s} s")
        if self.engine not in ENGINES or self.threads < 1 or self.multiply_adds < 1:
            raise ValueError(f"engine '{self.engine}', {self.threads} threads, no work")
        if not self.step_s or not all(map(_is_time, self.step_s.values())):
            raise ValueError(f"step_s must be positive, got {dict(self.step_s)}")
        sizes = sorted(self.step_s, reverse=True)
        times = [self.step_s[size] for size in sizes]
        if sizes[-1] < 1 or times != sorted(times):
            raise ValueError("step_s must not fall with the micro-batch")

    def setup(self, kept: Mapping[str, int], micro_batch: int) -> EngineSetup:
        """How steps are to be run.

        Args:
            kept: name of each weight tensor -> weights kept now.
            micro_batch: samples at once.
        """
        dense = [name for name, timing in self.layers.items() if timing.prefers_dense(kept[name])]
        return EngineSetup(
            engine=self.engine,
            micro_batch=micro_batch,
            dense_layers=tuple(dense),
            threads=self.threads,
            shared_work=self.shared_work,
        )

    def slowdown(self, micro_batch: int) -> float:
        """How many times as long a step takes in such parts; at least 1."""
        return self.step_s[micro_batch] / self.step_s[max(self.step_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The speed of the real kernels on this device, for one plan and one batch size.

    Attributes:
        plan_digest: of the plan that was timed.
        batch_size: samples of a step.
        levels: level -> its timing.
        baseline_bytes: resident memory of a trainer before it holds samples or an engine.
    """

    plan_digest: str
    batch_size: int
    levels: Mapping[float, LevelTiming]
    baseline_bytes: int

    def __post_init__(self) -> None:
        if not is_digest(self.plan_digest):
            raise ValueError(f"plan_digest is no SHA-256: {self.plan_digest!r}")
        if self.batch_size < 1 or self.baseline_bytes < 0:
            raise ValueError("batch_size must be positive and baseline_bytes not negative")
        if not self.levels:
            raise ValueError("there must be at least one level")
        for level, timing in self.levels.items():
            if not 0 < level <= 1:
                raise ValueError(f"level {level} is not in (0, 1]")
            if max(timing.step_s) != self.batch_size:
                raise ValueError(f"the whole batch was not timed at level {level}")

    @property
    def speeds(self) -> dict[float, float]:
        """Level -> multiply-adds per second, as measured."""
        return {
            level: timing.multiply_adds / timing.step_s[self.batch_size]
            for level, timing in self.levels.items()
        }

    def covers(self, plan_digest: str, batch_size: int, levels: tuple[float, ...]) -> bool:
        """Whether an offer of these needs no new measurement."""
        return (
            (self.plan_digest, self.batch_size) == (plan_digest, batch_size)
            and self.levels.keys() >= set(levels)
        )  # fmt: skip

    def to_json(self) -> str:
        """A text for the device's store."""
        document = {
            "version": VERSION,
            "plan_digest": self.plan_digest,
            "batch_size": self.batch_size,
            "baseline_bytes": self.baseline_bytes,
            "levels": [_level_document(level, self.levels[level]) for level in self.levels],
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else; measure again.
        """
        with kept_document(text, "not a calibration, measure again", VERSION) as document:
            return cls(
                plan_digest=str(document["plan_digest"]),
                batch_size=int(document["batch_size"]),
                baseline_bytes=int(document["baseline_bytes"]),
                levels=dict(map(_read_level, document["levels"])),
            )


def kept_by_name(plan: Plan, kept: Sequence[int]) -> dict[str, int]:
    """Kept weights of every tensor: those of the prunable ones, in plan order, and all others."""
    counts = {tensor.name: tensor.size for tensor in plan.tensors}
    names = [tensor.name for tensor in plan.prunable]
    return counts | dict(zip(names, kept, strict=False))


def _level_document(level: float, timing: LevelTiming) -> dict[str, Any]:
    return {
        "level": level,
        "step_s": list(timing.step_s.items()),
        "multiply_adds": timing.multiply_adds,
        "engine": timing.engine,
        "threads": timing.threads,
        "shared_work": timing.shared_work,
        "evolve_s": timing.evolve_s,
        "layers": {
            name: [layer.kept, layer.sparse_s, layer.dense_s]
            for name, layer in timing.layers.items()
        },
    }


def _read_level(document: dict[str, Any]) -> tuple[float, LevelTiming]:
    layers = {
        str(name): LayerTiming(kept=int(kept), sparse_s=float(sparse_s), dense_s=float(dense_s))
        for name, (kept, sparse_s, dense_s) in document["layers"].items()
    }
    timing = LevelTiming(
        step_s={int(size): float(seconds) for size, seconds in document["step_s"]},
        multiply_adds=int(document["multiply_adds"]),
        engine=str(document["engine"]),
        threads=int(document["threads"]),
        shared_work=int(document["shared_work"]),
        evolve_s=float(document["evolve_s"]),
        layers=layers,
    )
    return float(document["level"]), timing


def _is_time(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds > 0
