"""A round's updates, from the spool to what the model takes in: the same in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aggregator.accumulate import Folded, fold
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.open_round import FoldedUpdate
from aggregator.spool import Damage, Spool
from aggregator.tasks import Round, encoding_of, moves_masks
from aggregator.updates import Asked, Contribution, read_update
from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray
from fedsparse.wire.messages import Stage, Update


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
            base=lambda: self.model.base_under(digest, level, encoding),
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

    def read(device: str) -> tuple[Update, Contribution] | None:
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
        return update, contribution

    method = asking.model.method
    folded = fold(
        asking.plan,
        sorted(devices),
        read,
        asking.model.state.weights,
        evolved=method.own_masks and asking.now.stage is Stage.TRAIN,
        reference_compat=method.reference_compat,
        level_statistics=asking.job.method.level_statistics,
    )
    return folded, [parts[device] for device in sorted(parts)]
