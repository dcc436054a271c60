"""The job on disk: after every round, so that an aggregator that was killed goes on.

    <output>/checkpoints/<round>.npz   weights and masks with which that round begins

The two newest are kept: a damaged one is made again from the one before it and the updates of the
round between. The comment at the end of each file is the SHA-256 of what precedes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.vetting import NormHistory
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.methods.state import ServerState
from fedsparse.methods.statistics import LevelStatistics, running_positions
from fedsparse.plan import Plan
from fedsparse.types import Float32Array, Weights
from fedsparse.wire.messages import Stage

CHECKPOINTS: Final = "checkpoints"
GENERATIONS: Final = 2
SEAL_BYTES: Final = 64  # SHA-256 in hexadecimal
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
        norms: how far the updates of closed rounds moved the values.
    """

    job: str
    method: str
    plan_digest: str
    round_id: int
    stage: Stage
    state: ServerState
    trained_levels: frozenset[float] = frozenset()
    own_masks: dict[str, str] = field(default_factory=dict)
    norms: NormHistory = field(default_factory=NormHistory)


class DamagedError(ConfigError):
    """A checkpoint cannot be read; the message names it."""


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
        "norms": checkpoint.norms.to_json(),
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
    write_durably(path_of(folder, checkpoint.round_id), _sealed(buffer.getvalue()))


def path_of(folder: Path, round_id: int) -> Path:
    """Of the checkpoint with which a round begins."""
    return folder / CHECKPOINTS / f"{round_id}.npz"


def generations(folder: Path) -> list[int]:
    """The rounds of which there are checkpoints, newest first."""
    names = [path.stem for path in (folder / CHECKPOINTS).glob("*.npz")]
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is what was written; nothing in it is understood."""
    try:
        _unsealed(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def forget_old(folder: Path) -> None:
    """Remove checkpoints that none but older ones need."""
    for round_id in generations(folder)[GENERATIONS:]:
        path_of(folder, round_id).unlink()


def load_checkpoint(folder: Path, plan: Plan, job: str, method: str) -> Checkpoint | None:
    """The newest undamaged checkpoint of the job; None where it has not begun.

    Raises:
        ConfigError: the folder holds another job's checkpoint, or nothing but damaged ones.
    """
    errors = []
    for round_id in generations(folder):
        try:
            return _read(path_of(folder, round_id), plan, (job, method, plan.digest))
        except DamagedError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return None


def _check_owner(folder: Path, about: Mapping[str, Any], wanted: tuple[str, str, str]) -> None:
    job, method = about["job"], about["method"]
    if (job, method, about["plan_digest"]) != wanted:
        raise ConfigError(
            f"{folder} belongs to the job '{job}' ({method}) with another plan or method: choose "
            "another `output` in job.toml, or move the folder away"
        )


def _sealed(archive: bytes) -> bytes:
    """A zip file with its own SHA-256 as its comment; any reader of such files reads it."""
    head = archive[:-2] + SEAL_BYTES.to_bytes(2, "little")  # the length of the comment
    return head + hashlib.sha256(head).hexdigest().encode()


def _unsealed(data: bytes) -> io.BytesIO:
    head, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
    if hashlib.sha256(head).hexdigest().encode() != seal:
        raise ValueError("its checksum is wrong")
    return io.BytesIO(data)


def _read(path: Path, plan: Plan, wanted: tuple[str, str, str]) -> Checkpoint:
    try:
        with np.load(_unsealed(path.read_bytes()), allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            _check_owner(path.parent, about, wanted)
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
        return Checkpoint(
            job=about["job"],
            method=about["method"],
            plan_digest=about["plan_digest"],
            round_id=about["round_id"],
            stage=Stage(about["stage"]),
            state=state,
            trained_levels=frozenset(map(float, about["trained_levels"])),
            own_masks=dict(about["own_masks"]),
            norms=NormHistory.from_json(about["norms"]),
        )
    except UNREADABLE as error:
        raise DamagedError(
            f"{path} is damaged ({error}); move it away to go on from an older one, or to begin "
            "the job afresh where there is none"
        ) from error


def _statistics(plan: Plan, levels: Sequence[float], rows: Float32Array) -> LevelStatistics | None:
    """The running statistics of each level, `(levels, num_running)`; None where they are shared."""
    if not levels:
        return None
    values = {float(level): row for level, row in zip(levels, rows, strict=True)}
    return LevelStatistics(positions=running_positions(plan), values=values)
