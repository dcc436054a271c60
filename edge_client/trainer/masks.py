"""The masks that a device holds, as files of packed bits named by their digest."""

from __future__ import annotations

import os
from pathlib import Path

from fedsparse.durable import write_durably
from fedsparse.errors import FedSparseError, RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity.packing import decode_mask, mask_digest, pack, unpack
from fedsparse.types import BoolArray
from fedsparse.wire.messages import Part


class MaskMissingError(FedSparseError):
    """The task names a mask (or a base of a delta) that this device does not hold."""


def receive_mask(
    plan: Plan, digest: str, part: tuple[Part, memoryview] | None, folder: Path
) -> BoolArray:
    """The mask `(num_prunable,)` of a task: from the message where it is there, else from disk.

    Raises:
        MaskMissingError: it is in neither.
        RemoteProtocolError: what came is not the mask of this digest.
    """
    if part is None:
        mask = load_mask(plan, folder, digest)
        os.utime(folder / f"{digest}.bits")  # in use: the oldest are removed first
        return mask
    description, data = part
    base = load_mask(plan, folder, description.base) if description.base else None
    mask = decode_mask(description.codec, data, plan.num_prunable, base)
    if mask_digest(plan.digest, mask) != digest:
        raise RemoteProtocolError(f"the mask that came is not {digest[:12]}")
    save_mask(folder, digest, mask)
    return mask


def load_mask(plan: Plan, folder: Path, digest: str) -> BoolArray:
    """A mask from disk; a damaged file is removed and counts as missing."""
    path = folder / f"{digest}.bits"
    try:
        mask = unpack(path.read_bytes(), plan.num_prunable)
    except OSError as error:
        raise MaskMissingError(f"mask {digest[:12]} is not here") from error
    except RemoteProtocolError:
        mask = None
    if mask is not None and mask_digest(plan.digest, mask) == digest:
        return mask
    path.unlink(missing_ok=True)
    raise MaskMissingError(f"mask {digest[:12]} was damaged on disk")


def save_mask(folder: Path, digest: str, mask: BoolArray) -> None:
    """Keep a mask."""
    write_durably(folder / f"{digest}.bits", pack(mask))
