"""What a device sent, checked against what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedsparse.errors import RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import decode_counts, decode_mask, mask_digest
from fedsparse.sparsity.values import carry_over, decode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import F32
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Part, Stage, Update

SPARE_BYTES: Final = 64 * 1024  # for scales, and layer densities
LARGEST_VALUE: Final = 1e6  # no weight of a network that works is near it


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a device's open task was.

    Attributes:
        stage, level: of the task.
        mask_digest: of the mask that it was given.
        mask: yields that mask `(num_prunable,)`.
        sent: yields the SHA-256 of the values as they were sent.
        before: yields the model's own values: prunable `(nnz,)` under that mask, dense
            `(num_dense,)` of the level. A change is added to these: what the encoding of one round
            lost is not to add up with that of the next.
        evolves: whether the device was to change it.
        salient: whether stage 1 is about the saliency of weights.
        num_examples: how many it said that it would train on; None where that was forgotten.
    """

    stage: Stage
    level: float
    mask_digest: str
    mask: Callable[[], BoolArray]
    sent: Callable[[], str]
    before: Callable[[], Weights]
    evolves: bool
    salient: bool = False
    num_examples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """The content of a good update.

    Attributes:
        mask: `(num_prunable,)` under which it was trained; None for an answer without values.
        weights: kept values and dense tensors; None likewise. In a salient stage 1 the saliency of
            prunable weights, and zeros.
        counts: weights kept in each prunable tensor.
        before: what the device began with, where it trained them: as `weights`, 0 where it grew.
    """

    mask: BoolArray | None
    weights: Weights | None
    counts: tuple[int, ...]
    before: Weights | None = None


def largest_update_bytes(plan: Plan) -> int:
    """How long the body of an update can be: every weight as float32, and a mask."""
    mask = plan.num_prunable // 8 + 1
    return 4 * (plan.num_prunable + plan.num_dense) + mask + SPARE_BYTES


def read_update(plan: Plan, asked: Asked, update: Update, body: bytes) -> Contribution:
    """Check an update and decode it.

    Raises:
        RemoteProtocolError: it is not an answer to what was asked; the message says why.
    """
    if update.stage is not asked.stage:
        raise RemoteProtocolError(
            f"the update is of stage '{update.stage.value}', its task was of '{asked.stage.value}'"
        )
    if update.level != asked.level:
        raise RemoteProtocolError(f"the update is at level {update.level}, not {asked.level}")
    if asked.num_examples is not None and update.num_examples > asked.num_examples:
        raise RemoteProtocolError(
            f"{update.num_examples} examples, though the device has {asked.num_examples}"
        )
    parts = split_parts(update.parts, body)
    if asked.stage is Stage.EVALUATE:
        # A device that holds nothing out has no evaluation to send, and none is missed.
        return Contribution(mask=None, weights=None, counts=())
    if asked.stage is Stage.SENSE and asked.salient:
        return _saliency(plan, asked, update, parts)
    if asked.stage is Stage.SENSE:
        if "layers" not in parts:
            raise RemoteProtocolError("the update carries no layer densities")
        counts = decode_counts(parts["layers"][1], plan)
        if sum(counts) != plan.kept(asked.level):
            raise RemoteProtocolError(
                f"the layers keep {sum(counts)} weights, the level {plan.kept(asked.level)}"
            )
        return Contribution(mask=None, weights=None, counts=counts)
    mask = _mask(plan, asked, update, parts)
    counts = counts_of(plan, mask)
    if "values" not in parts:
        raise RemoteProtocolError("the update carries no values")
    part, data = parts["values"]
    weights = decode_values(part.codec, data, counts, plan.num_dense)
    before = asked.before()
    start = carry_over(before.prunable, asked.mask(), mask) if asked.evolves else before.prunable
    if part.base:
        weights = _changed(asked, part.base, weights, start)
    for values in (weights.prunable, weights.dense):
        if values.size and float(np.abs(values).max()) > LARGEST_VALUE:
            raise RemoteProtocolError(f"a value beyond {LARGEST_VALUE:g}: training has diverged")
    started = Weights(prunable=start, dense=before.dense)
    return Contribution(mask=mask, weights=weights, counts=counts, before=started)


def _changed(asked: Asked, digest: str, change: Weights, start: Float32Array) -> Weights:
    """The weights of an update that sent its kept values as a change of those it began with."""
    if digest != (sent := asked.sent()):
        raise RemoteProtocolError(
            f"the update is a change of the values {digest[:12]}; its task's were {sent[:12]}"
        )
    return Weights(prunable=start + change.prunable, dense=change.dense)


def _saliency(
    plan: Plan, asked: Asked, update: Update, parts: dict[str, tuple[Part, memoryview]]
) -> Contribution:
    """The saliency of every weight of the task's mask, which is that of the dense model."""
    if update.mask_digest != asked.mask_digest or "mask" in parts:
        raise RemoteProtocolError("the saliency is under another mask than its task")
    if "values" not in parts or parts["values"][0].codec != F32:
        raise RemoteProtocolError(f"the update carries no saliency as '{F32}'")
    mask = asked.mask()
    found = decode_values(F32, parts["values"][1], counts_of(plan, mask), 0)
    if found.prunable.min() < 0 or found.prunable.max() > LARGEST_VALUE:
        raise RemoteProtocolError(f"a saliency that is not in 0 to {LARGEST_VALUE:g}")
    weights = Weights(prunable=found.prunable, dense=np.zeros(plan.num_dense, np.float32))
    return Contribution(mask=mask, weights=weights, counts=counts_of(plan, mask))


def _mask(
    plan: Plan, asked: Asked, update: Update, parts: dict[str, tuple[Part, memoryview]]
) -> BoolArray:
    """The mask of an update: the one that the device was given, or the one it sent."""
    if not asked.evolves:
        if update.mask_digest != asked.mask_digest or "mask" in parts:
            raise RemoteProtocolError("the update is under another mask than its task")
        return asked.mask()
    if "mask" not in parts:
        raise RemoteProtocolError("the update carries no mask, though its mask was to evolve")
    part, data = parts["mask"]
    if part.base not in ("", asked.mask_digest):
        raise RemoteProtocolError("the update's mask is a delta against an unknown mask")
    mask = decode_mask(part.codec, data, plan.num_prunable, asked.mask() if part.base else None)
    if mask_digest(plan.digest, mask) != update.mask_digest:
        raise RemoteProtocolError("the update's mask does not have the digest it names")
    if int(np.count_nonzero(mask)) != plan.kept(asked.level):
        raise RemoteProtocolError(
            f"the update's mask keeps {int(np.count_nonzero(mask))} weights, its level "
            f"{plan.kept(asked.level)}"
        )
    return mask
