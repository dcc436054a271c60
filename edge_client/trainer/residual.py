"""What the encoding of updates lost, as bytes in a file: it goes with the next update.

offset  size  field
0       32    SHA-256 of all that follows
32      32    SHA-256 of the job's name and the plan's digest
64      32    digest of the mask that the values are under
96      4     number of the round that lost them, unsigned, little-endian
100     rest  float32 values, little-endian

The trainer writes what its update loses beside it in the outbox; the agent moves it to its place
once the update was accepted. If the receipt is lost, so is this: an update that is not known to
have been accepted leaves what there was before, and the error is that of one rounding.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.trainer.masks import MaskMissingError, load_mask
from edge_client.trainer.work import Residual
from fedsparse.durable import write_durably
from fedsparse.plan import Plan
from fedsparse.wire.messages import Task

HEADER: Final = struct.Struct("<32s32sI")
DIGEST_BYTES: Final = 32


def save_residual(path: Path, task: Task, mask_digest: str, residual: Residual | None) -> None:
    """Write what the update of a task loses; without any, what another one lost is removed."""
    if residual is None:
        path.unlink(missing_ok=True)
        return
    write_durably(path, encode_residual(task, mask_digest, residual))


def load_residual(path: Path, task: Task, plan: Plan, masks: Path) -> Residual | None:
    """What is to be added to the update of a task; None where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return decode_residual(data, task, plan, masks)


def encode_residual(task: Task, mask_digest: str, residual: Residual) -> bytes:
    """What the update of a task loses, under the mask of this digest."""
    header = HEADER.pack(_owner(task), bytes.fromhex(mask_digest), task.round_id)
    content = header + residual.values.astype("<f4", copy=False).tobytes()
    return hashlib.sha256(content).digest() + content


def decode_residual(data: bytes, task: Task, plan: Plan, masks: Path) -> Residual | None:
    """What is to be added to the update of a task.

    None where the bytes are damaged; where they are of another job or plan, or of a round that this
    job has yet to come to (it began anew); where their mask is not in the folder `masks`.
    """
    content = memoryview(data)[DIGEST_BYTES:]
    if len(content) < HEADER.size or hashlib.sha256(content).digest() != data[:DIGEST_BYTES]:
        return None
    owner, digest, round_id = HEADER.unpack_from(content)
    if owner != _owner(task) or round_id >= task.round_id:
        return None
    try:
        mask = load_mask(plan, masks, digest.hex())
    except MaskMissingError:
        return None
    values = np.frombuffer(content[HEADER.size :], "<f4").astype(np.float32)
    return Residual(mask=mask, values=values)


def _owner(task: Task) -> bytes:
    return hashlib.sha256(f"{task.job}/{task.plan_digest}".encode()).digest()
