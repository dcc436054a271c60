"""A round's updates, from the spool to what the model takes in: the same in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aggregator.accumulate import Folded, Spooled, Terms, fold
from aggregator.aggregation import Aggregation, Mean
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.open_round import FoldedUpdate
from aggregator.pieces import MasksOnDisk
from aggregator.spool import Damage, Spool
from aggregator.tasks import Round, encoding_of, moves_masks
from aggregator.trimming import TrimmedMean
from aggregator.updates import Asked, read_update
from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray
from fedsparse.wire.messages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What the devices of a round are asked for.

    Attributes:
        job, plan, model, now: what is trained, and in which round.
    """

    job: JobConfig
    plan: Plan
    model: GlobalModel
    now: Round

    def of(self, device: str, level: float, num_examples: int | None = None) -> Asked:
        """What one device is asked for; `num_examples` is what it said that it has."""
        digest = self.model.mask_for(device, level, self.now.stage)
        encoding = encoding_of(self.job, self.now)
        training = self.now.stage is Stage.TRAIN  # masks that evolve in stage 1 are not kept
        return Asked(
            stage=self.now.stage,
            level=level,
            mask_digest=digest,
            mask=lambda: self._known_mask(digest),
            sent=lambda: self.model.values_under(digest, level, encoding).digest,
            before=lambda: self.model.weights_under(digest, level),
            evolves=training and moves_masks(self.model.method, self.now),
            salient=self.model.method.salient,
            num_examples=num_examples,
        )

    def _known_mask(self, digest: str) -> BoolArray:
        mask = self.model.known_mask(digest)
        if mask is None:
            raise LocalProtocolError(f"the mask {digest[:12]} of an open task was forgotten")
        return mask


def fold_round(
    asking: Asking, spool: Spool, devices: Iterable[str], damaged: Callable[[Damage], None]
) -> tuple[Folded, list[FoldedUpdate]]:
    """Fold what the spool holds of a round.

    Args:
        asking: the round, with the model as it was when the round began.
        spool: turned to that round.
        devices: whose updates, in any order.
        damaged: is told of each update that cannot be read; the others are folded.

    Returns:
        The fold, and what it is made of.
    """
    digests, parts = spool.digests, dict[str, FoldedUpdate]()

    def read(device: str) -> Spooled | None:
        try:
            update, body = spool.load(device)
            asked = asking.of(device, update.level)
            contribution = read_update(asking.plan, asked, update, body)
        except (OSError, RemoteProtocolError) as error:
            damaged(Damage(device=device, reason=str(error)))
            return None
        parts[device] = FoldedUpdate(
            device=device,
            origin_round=update.round_id,
            level=update.level,
            num_examples=update.num_examples,
            digest=digests[device],
        )
        pieces = spool.body(device).read
        return Spooled(update=update, contribution=contribution, asked=asked, read=pieces)

    terms = Terms(
        max_examples=asking.job.cohort.max_examples,
        clip_norm=asking.job.aggregate.clip_norm,
        measured=asking.job.cohort.bound_norms,
        evolved=asking.model.method.own_masks and asking.now.stage is Stage.TRAIN,
    )
    with aggregation_of(asking) as aggregation:
        weights = asking.model.state.weights
        folded = fold(asking.plan, sorted(devices), read, weights, aggregation, terms)
    return folded, [parts[device] for device in sorted(parts)]


@contextmanager
def aggregation_of(asking: Asking) -> Iterator[Aggregation]:
    """What makes one model of a round's updates; of the trimmed mean, with a file in `output`."""
    job, plan = asking.job, asking.plan
    by_level = job.method.level_statistics
    if job.aggregate.rule == "mean":
        compat = asking.model.method.reference_compat
        yield Mean(plan, reference_compat=compat, level_statistics=by_level)
        return
    with MasksOnDisk(plan.num_prunable, job.output) as masks:
        before, trim = asking.model.state.weights_at, job.aggregate.trim
        yield TrimmedMean(plan, before, trim, masks, level_statistics=by_level)
