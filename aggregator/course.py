"""A job's course: which round comes next, what it offers, and what is kept between rounds."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from aggregator.accumulate import Folded
from aggregator.checkpoint import (
    Checkpoint,
    OpenRound,
    load_checkpoint,
    load_round,
    save_checkpoint,
    save_round,
)
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.models.weights import load_weights
from aggregator.tasks import Round, encoding_of, moves_masks, stage_epochs, up_codec
from fedsparse.errors import ConfigError, LocalProtocolError
from fedsparse.methods.method import Method, make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.wire.messages import Offer, Stage

log = logging.getLogger("aggregator")


class Course:
    """Where a job stands, on disk and in memory.

    The rounds are: stage 1 where the method has it (round 0), `rounds` training rounds (from 1),
    one evaluation on the devices where the gateway has no test set, and done.

    Args:
        job, plan: what is trained.
        evaluate_on_devices: whether the gateway has no test set.

    Attributes:
        round: the present round.
        open_round: its number, how often it was offered, and its cohort, as on the disk.
        trained_levels: the levels that devices have trained so far.

    Raises:
        ConfigError: the output folder holds another job, or a file of the job is invalid.
    """

    def __init__(self, job: JobConfig, plan: Plan, *, evaluate_on_devices: bool) -> None:
        self._job = job
        self._plan = plan
        self._evaluate_on_devices = evaluate_on_devices
        self._model: GlobalModel | None = None
        self._pretrained = load_weights(job.weights, plan) if job.weights else None
        checkpoint = load_checkpoint(job.output, plan, job.name, job.method.name)
        self.resumed = checkpoint is not None
        self.trained_levels: frozenset[float] = frozenset()
        if checkpoint is None:
            senses = self._make_method(job.method.levels).senses
            following = (0, Stage.SENSE) if senses else (1, Stage.TRAIN)
        else:
            self._check_levels(checkpoint.state)
            self._adopt(checkpoint.state, checkpoint.own_masks)
            self.trained_levels = checkpoint.trained_levels
            following = (checkpoint.round_id, checkpoint.stage)
            log.info("resumed=yes round=%d stage=%s", following[0], following[1].value)
        self.round, self.open_round = self._next_offer(*following)
        if self.done:
            log.info("job=done already; another `output` in job.toml begins a new one")

    @property
    def model(self) -> GlobalModel:
        """The model; it exists from the first answers on."""
        if self._model is None:
            raise LocalProtocolError("there is no model before the first devices have answered")
        return self._model

    @property
    def done(self) -> bool:
        """Whether all rounds are over."""
        return self.round.stage is Stage.DONE

    def start(self, levels: tuple[float, ...]) -> None:
        """The devices' means are known: make the model at the levels that they can hold."""
        rng = np.random.default_rng([self._job.seed, 0])
        self._adopt(self._make_method(levels).initial(rng, self._pretrained), {})
        self._save(self.round.round_id, self.round.stage)

    def offer(self, seconds_left: float) -> Offer:
        """The offer of the present round; before the first answers, of what the method begins with.

        Args:
            seconds_left: that a task of this round will have.
        """
        if self._model is None:
            levels = self._job.method.levels
            digests = ("",) * len(levels)
            kept = tuple(self.method.first_counts(level) for level in levels)
        else:
            levels = self._model.levels
            shared = not self._model.method.own_masks
            digests = tuple(self._model.level_digest(level) if shared else "" for level in levels)
            kept = tuple(self._model.kept(level) for level in levels)
        method, sensing = self.method, self.round.stage is Stage.SENSE
        training = self.round.stage is Stage.TRAIN
        return Offer(
            job=self._job.name,
            round_id=self.round.round_id,
            attempt=self.round.attempt,
            stage=self.round.stage,
            plan_digest=self._plan.digest,
            levels=levels,
            mask_digests=digests,
            kept=kept,
            batch_size=self._job.training.batch_size,
            epochs=stage_epochs(self._job, method, self.round.stage),
            seconds_left=seconds_left,
            evolve=moves_masks(method, self.round),
            probe=(sensing and method.salient) or (training and method.power != 1.0),
            steps=1 if sensing and method.salient else None,
            down_codec=encoding_of(self._job, self.round).codec,
            up_codec=up_codec(self._job, method, self.round),
        )

    @property
    def evolves(self) -> bool:
        """Whether devices are to send masks of their own: those of stage 1 are not kept."""
        return self.round.stage is Stage.TRAIN and moves_masks(self.method, self.round)

    @property
    def method(self) -> Method:
        """Of the levels that the job wants, until it is known which ones devices can hold."""
        return self._model.method if self._model else self._make_method(self._job.method.levels)

    def assigned(self, cohort: dict[str, float], closes_at_s: float) -> None:
        """Note who takes part, and until when: a restarted aggregator goes on with both."""
        self.open_round = replace(self.open_round, cohort=cohort, closes_at_s=closes_at_s)
        save_round(self._job.output, self.open_round)

    def closed(self, folded: Folded) -> bool:
        """Take in the present round and go to the next; returns whether shared masks changed."""
        if self.round.stage is Stage.TRAIN:
            self.trained_levels |= {report.level for report in folded.reports}
        changed = self.model.absorb(self.round.stage, self.round.index, folded, self._job.seed)
        following = self._successor()
        # The checkpoint first: until it says so, a restarted aggregator is in the present round.
        self._save(*following)
        self.model.tidy()
        self.round, self.open_round = self._next_offer(*following)
        return changed

    def repeat(self) -> None:
        """Nobody delivered: the same round is to be offered again, to whoever is there."""
        self.open_round = replace(
            self.open_round, cohort={}, closes_at_s=None, repeats=self.open_round.repeats + 1
        )
        save_round(self._job.output, self.open_round)
        self.round, self.open_round = self._next_offer(self.round.round_id, self.round.stage)

    def _successor(self) -> tuple[int, Stage]:
        following = self.round.round_id + 1
        if following <= self._job.rounds:
            return following, Stage.TRAIN
        if self._evaluate_on_devices and self.round.stage is not Stage.EVALUATE:
            return following, Stage.EVALUATE
        return following, Stage.DONE

    def _next_offer(self, round_id: int, stage: Stage) -> tuple[Round, OpenRound]:
        """The round to be offered; one that was open before goes on as a further attempt."""
        known = load_round(self._job.output)
        if known is not None and known.round_id == round_id:
            current = replace(known, attempt=known.attempt + 1)
        else:
            current = OpenRound(round_id=round_id, attempt=0)
        now = Round(
            round_id=round_id,
            attempt=current.attempt,
            repeats=current.repeats,
            stage=stage,
            index=min(max(0, round_id - 1), self._job.rounds - 1),
            evaluate=self._evaluate_on_devices and stage in (Stage.TRAIN, Stage.EVALUATE),
        )
        save_round(self._job.output, current)
        return now, current

    def _check_levels(self, state: ServerState) -> None:
        """A job goes on at the levels that it began with (those that devices could hold)."""
        begun, wanted = set(state.masks), set(self._job.method.levels)
        if begun != {level for level in wanted if level <= max(begun)}:
            raise ConfigError(
                f"{self._job.output} holds this job at the levels "
                f"{sorted(begun, reverse=True)}, job.toml says {list(self._job.method.levels)}: "
                "put them back, or choose another `output`"
            )

    def _adopt(self, state: ServerState, own_masks: dict[str, str]) -> None:
        method = self._make_method(tuple(sorted(state.masks, reverse=True)))
        self._model = GlobalModel(self._plan, method, state, self._job.output, own_masks)

    def _make_method(self, levels: tuple[float, ...]) -> Method:
        method = self._job.method
        return make_method(
            method.name,
            levels,
            plan=self._plan,
            rounds=self._job.rounds,
            r_int=method.r_int,
            prune_rate=method.prune_rate,
            initialisation=method.initialisation,
            reference_compat=method.reference_compat,
        )

    def _save(self, round_id: int, stage: Stage) -> None:
        checkpoint = Checkpoint(
            job=self._job.name,
            method=self._job.method.name,
            plan_digest=self._plan.digest,
            round_id=round_id,
            stage=stage,
            state=self.model.state,
            trained_levels=self.trained_levels,
            own_masks=self.model.own_masks,
        )
        save_checkpoint(self._job.output, checkpoint)
