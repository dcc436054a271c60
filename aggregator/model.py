"""The model of a job on the gateway: its method's state, and the masks that devices hold."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from aggregator.accumulate import Folded
from aggregator.mask_folder import MaskFolder
from aggregator.values_folder import ValuesFolder
from fedsparse.body import Body
from fedsparse.methods.method import Method
from fedsparse.methods.state import ServerState
from fedsparse.methods.statistics import LevelStatistics, running_positions
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import mask_digest, pack, unpack
from fedsparse.sparsity.values import encode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.messages import Stage

log = logging.getLogger("aggregator")

SHELF: Final = 32  # masks kept as bases of deltas: a few epochs of all levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How the model's values are sent: the codec, and the seed of what it rounds at random."""

    codec: str
    seed: str


class GlobalModel:
    """The weights and masks that devices are given, and what becomes of them after a round.

    Args:
        plan, method: the model's layers, and how its sparsity is found.
        state: the method's state; replaced, never changed in place.
        folder: of the job: `shelf/` has the masks given out lately, `own-masks/` those of single
            devices, for a method that has them (`nst`), `values/` what large models send.
        own_masks: digests of those masks by device.
    """

    def __init__(
        self,
        plan: Plan,
        method: Method,
        state: ServerState,
        folder: Path,
        own_masks: Mapping[str, str],
    ) -> None:
        self.plan = plan
        self.method = method
        self._own_masks = dict(own_masks)
        self._own_folder = MaskFolder(plan, folder / "own-masks")
        self._shelf_folder = MaskFolder(plan, folder / "shelf")
        self._values_folder = ValuesFolder(folder / "values")
        # digest -> packed bits, the newest last
        self._shelf: dict[str, bytes] = {
            digest: pack(mask)
            for digest in self._shelf_folder.digests()
            if (mask := self._shelf_folder.load(digest)) is not None
        }
        # (digest, level, encoding) -> the level's values under that mask
        self._values: dict[tuple[str, float, Encoding], Body] = {}
        self._replace(state)

    @property
    def state(self) -> ServerState:
        """The method's state."""
        return self._state

    @property
    def levels(self) -> tuple[float, ...]:
        """The densities of the model, largest first."""
        return tuple(sorted(self._state.masks, reverse=True))

    @property
    def own_masks(self) -> dict[str, str]:
        """Digest of each device's own mask, for the checkpoint; the masks are on the disk."""
        return dict(self._own_masks)

    def level_digest(self, level: float) -> str:
        """Digest of a level's shared mask."""
        return self._digests[level]

    def kept(self, level: float) -> tuple[int, ...]:
        """Weights kept in each prunable tensor at `level`."""
        return counts_of(self.plan, self._state.masks[level])

    def mask_for(self, device: str, level: float, stage: Stage) -> str:
        """Digest of the mask under which `device` works at `level`; its own one to train."""
        digest = self._own_masks.get(device, "")
        own = self._own_folder.load(digest) if stage is Stage.TRAIN else None
        if own is not None and np.count_nonzero(own) == self.plan.kept(level):
            return digest
        return self._digests[level]

    def known_mask(self, digest: str) -> BoolArray | None:
        """The mask `(num_prunable,)` of this digest, if it is one that we gave out lately."""
        bits = self._shelf.get(digest)
        if bits is None:
            return self._own_folder.load(digest)
        return unpack(bits, self.plan.num_prunable)

    def values_under(self, digest: str, level: float, encoding: Encoding) -> Body:
        """A level's values under a known mask; for a shared one they are encoded once.

        The same bytes every time, in another process too: a device's change names them.
        """
        if (digest, level, encoding) in self._values:
            return self._values[digest, level, encoding]
        mask = self._mask(digest)
        draws = random.Random(f"{encoding.seed}/{digest}")  # noqa: S311 (a draw, not a secret)
        values = encode_values(
            self.weights_under(digest, level),
            encoding.codec,
            counts_of(self.plan, mask),
            draws.randbytes,
        )
        body = self._values_folder.keep(values)
        if digest in self._digests.values():
            self._values[digest, level, encoding] = body
        return body

    def weights_under(self, digest: str, level: float) -> Weights:
        """The model's own values under a known mask: prunable `(nnz,)`, dense `(num_dense,)`."""
        weights = self._state.weights_at(level)
        return Weights(prunable=weights.prunable[self._mask(digest)], dense=weights.dense)

    def absorb(self, stage: Stage, round_index: int, folded: Folded, seed: int) -> bool:
        """Let the method take in a closed round; returns whether the shared masks changed."""
        before = dict(self._digests)
        rng = np.random.default_rng([seed, 1])
        if stage is Stage.SENSE:
            reports = [(report.num_examples, report.counts) for report in folded.reports]
            saliency = folded.mean.prunable if folded.mean is not None else None
            self._replace(self.method.after_sense(self._state, reports, rng, saliency))
        elif stage is Stage.TRAIN and folded.mean is not None:
            self._own_masks |= {
                device: self._own_folder.save(mask) for device, mask in folded.own_masks()
            }
            layers = [(r.num_examples, r.level, r.counts) for r in folded.reports]
            state = self.method.next_state(self._state, folded.mean, layers, round_index)
            self._replace(self._with_statistics(state, folded.statistics))
        return before != self._digests

    def _with_statistics(
        self, state: ServerState, found: Mapping[float, Float32Array]
    ) -> ServerState:
        if not found:
            return state
        known = state.statistics or LevelStatistics(positions=running_positions(self.plan))
        return replace(state, statistics=known.followed_by(found))

    def tidy(self, also_needed: Collection[str] = ()) -> None:
        """Remove the masks that nobody needs any more, once a checkpoint says so.

        Args:
            also_needed: digests of devices' own masks that an earlier checkpoint names.
        """
        self._own_folder.remove_all_but({*self._own_masks.values(), *also_needed})
        self._shelf_folder.remove_all_but(self._shelf)

    def _replace(self, state: ServerState) -> None:
        self._state = state
        self._values = {}
        self._values_folder.clear()
        self._digests = {level: self._put_on_shelf(mask) for level, mask in state.masks.items()}

    def _mask(self, digest: str) -> BoolArray:
        mask = self.known_mask(digest)
        if mask is None:
            raise KeyError(digest)
        return mask

    def _put_on_shelf(self, mask: BoolArray) -> str:
        digest = mask_digest(self.plan.digest, mask)
        try:
            self._shelf_folder.save(mask)
        except OSError as error:  # of a present mask the checkpoint has a copy
            log.warning("not_on_shelf=%s reason=%r", digest[:12], str(error))
        self._shelf.pop(digest, None)
        self._shelf[digest] = pack(mask)
        for old in list(self._shelf)[: max(0, len(self._shelf) - SHELF)]:
            del self._shelf[old]
        return digest
