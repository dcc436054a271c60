"""The job on disk: after every round, so that an aggregator that was killed goes on.

<output>/checkpoint.npz   weights, masks, and the round that comes next
<output>/round.json       the open round: how often it was offered, and its cohort
"""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.methods.state import ServerState
from fedsparse.methods.statistics import LevelStatistics, running_positions
from fedsparse.plan import Plan
from fedsparse.types import Float32Array, Weights
from fedsparse.wire.messages import Stage

CHECKPOINT: Final = "checkpoint.npz"
ROUND: Final = "round.json"
# What numpy, zipfile and json raise over damaged bytes.
UNREADABLE: Final = (
    OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError, EOFError, RuntimeError,
    MemoryError, OverflowError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a job stands between two rounds.

    Attributes:
        job, method, plan_digest: what it is a checkpoint of.
        round_id, stage: the round that comes next.
        state: the method's state.
        trained_levels: the levels that devices have trained so far; the others are not exported.
        own_masks: digests of the devices' own masks, for a method that has them.
    """

    job: str
    method: str
    plan_digest: str
    round_id: int
    stage: Stage
    state: ServerState
    trained_levels: frozenset[float] = frozenset()
    own_masks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """The round that is open.

    Attributes:
        round_id: its number.
        attempt: how often it was offered before.
        repeats: how often it ended without an update before; each time with other random draws.
        cohort: who takes part, and at which level.
        closes_at_s: its deadline, as this host's calendar has it (Unix time); None before it has a
            cohort.
    """

    round_id: int
    attempt: int
    repeats: int = 0
    cohort: dict[str, float] = field(default_factory=dict)
    closes_at_s: float | None = None

    def __post_init__(self) -> None:
        if self.closes_at_s is not None and not math.isfinite(self.closes_at_s):
            raise ValueError(f"closes_at_s is a time, not {self.closes_at_s}")


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint durably."""
    levels = sorted(checkpoint.state.masks, reverse=True)
    known = checkpoint.state.statistics
    statistics = dict(known.values) if known else {}
    about = {
        "job": checkpoint.job,
        "method": checkpoint.method,
        "plan_digest": checkpoint.plan_digest,
        "round_id": checkpoint.round_id,
        "stage": checkpoint.stage.value,
        "levels": levels,
        "trained_levels": sorted(checkpoint.trained_levels),
        "own_masks": checkpoint.own_masks,
        "mask_epoch": checkpoint.state.mask_epoch,
        "sensed": checkpoint.state.sensed,
        "pretrained": checkpoint.state.pretrained,
        "levels_with_statistics": sorted(statistics),
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        prunable=checkpoint.state.weights.prunable,
        dense=checkpoint.state.weights.dense,
        masks=np.stack([np.packbits(checkpoint.state.masks[level]) for level in levels]),
        statistics=np.asarray([statistics[level] for level in sorted(statistics)], np.float32),
    )
    write_durably(folder / CHECKPOINT, buffer.getbuffer())


def load_checkpoint(folder: Path, plan: Plan, job: str, method: str) -> Checkpoint | None:
    """The job's checkpoint; None where the job has not begun.

    Raises:
        ConfigError: the folder holds another job's checkpoint, or a damaged one.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            bits = np.unpackbits(arrays["masks"], axis=1, count=plan.num_prunable)
            state = ServerState(
                weights=Weights(prunable=arrays["prunable"], dense=arrays["dense"]),
                masks={
                    float(level): row.view(np.bool_)
                    for level, row in zip(about["levels"], bits, strict=True)
                },
                mask_epoch=about["mask_epoch"],
                sensed=about["sensed"],
                pretrained=about["pretrained"],
                statistics=_statistics(plan, about["levels_with_statistics"], arrays["statistics"]),
            )
        found = Checkpoint(
            job=about["job"],
            method=about["method"],
            plan_digest=about["plan_digest"],
            round_id=about["round_id"],
            stage=Stage(about["stage"]),
            state=state,
            trained_levels=frozenset(map(float, about["trained_levels"])),
            own_masks=dict(about["own_masks"]),
        )
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} is damaged ({error}); move it away to begin the job afresh"
        ) from error
    wanted = (job, method, plan.digest)
    if (found.job, found.method, found.plan_digest) != wanted:
        raise ConfigError(
            f"{path} belongs to the job '{found.job}' ({found.method}) with another plan or "
            f"method: choose another `output` in job.toml, or move the folder away"
        )
    return found


def _statistics(plan: Plan, levels: Sequence[float], rows: Float32Array) -> LevelStatistics | None:
    """The running statistics of each level, `(levels, num_running)`; None where they are shared."""
    if not levels:
        return None
    values = {float(level): row for level, row in zip(levels, rows, strict=True)}
    return LevelStatistics(positions=running_positions(plan), values=values)


def save_round(folder: Path, current: OpenRound) -> None:
    """Note the open round durably."""
    write_durably(folder / ROUND, json.dumps(asdict(current)).encode())


def load_round(folder: Path) -> OpenRound | None:
    """The round that was open when the aggregator ended; None where that is not known."""
    try:
        return OpenRound(**json.loads((folder / ROUND).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
