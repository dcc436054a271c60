"""A job's course: which round comes next, what it offers, and what is kept between rounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from aggregator.accumulate import Folded
from aggregator.checkpoint import Checkpoint, forget_old, load_checkpoint, save_checkpoint
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.models.weights import load_weights
from aggregator.open_round import Assignment, FoldedUpdate, JobStore, OpenRound
from aggregator.tasks import Round, encoding_of, moves_masks, stage_epochs, up_codec
from aggregator.vetting import NormHistory
from fedsparse.errors import ConfigError, LocalProtocolError, StoreError
from fedsparse.methods.method import Method, make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.wire.messages import Offer, Stage

log = logging.getLogger("aggregator")


class Course:
    """Where a job stands, on disk and in memory.

    The rounds are: stage 1 where the method has it (round 0), `rounds` training rounds (from 1),
    one evaluation on the devices where the gateway has no test set, and done.

    The checkpoint is the truth: until it says so, the aggregator is in the present round. What is
    noted beside it lets a restarted one go on in the midst of a round.

    Args:
        job, plan: what is trained.
        jobs: keeps the notes.
        evaluate_on_devices: whether the gateway has no test set.
        calendar: seconds since 1970, which may jump.

    Attributes:
        round: the present round.
        open_round: its number, how often it was offered, and its cohort.
        trained_levels: the levels that devices have trained so far.
        norms: how far the updates of closed rounds moved the values.
        unnoted: why the notes are behind; None where they are not.

    Raises:
        ConfigError: the output folder holds another job, or a file of the job is invalid.
        StoreError, OSError: the job's first note cannot be written.
    """

    def __init__(
        self,
        job: JobConfig,
        plan: Plan,
        jobs: JobStore,
        *,
        evaluate_on_devices: bool,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._job = job
        self._plan = plan
        self._jobs = jobs
        self._calendar = calendar
        self._evaluate_on_devices = evaluate_on_devices
        self.unnoted: Exception | None = None
        self._model: GlobalModel | None = None
        self._pretrained = load_weights(job.weights, plan) if job.weights else None
        checkpoint = load_checkpoint(job.output, plan, job.name, job.method.name)
        self.resumed = checkpoint is not None
        self.trained_levels: frozenset[float] = frozenset()
        self.norms = NormHistory()
        if checkpoint is None:
            senses = self._make_method(job.method.levels).senses
            following = (0, Stage.SENSE) if senses else (1, Stage.TRAIN)
        else:
            self._check_levels(checkpoint.state)
            self._adopt(checkpoint.state, checkpoint.own_masks)
            self.trained_levels = checkpoint.trained_levels
            self.norms = checkpoint.norms
            following = (checkpoint.round_id, checkpoint.stage)
            log.info("resumed=yes round=%d stage=%s", following[0], following[1].value)
        self._kept = checkpoint
        self._unsaved = False
        self.round, self.open_round = self._next_offer(*following)
        if self.unnoted is not None:
            raise self.unnoted
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
        self._unsaved = True
        self.note()

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
            run=self.round.run,
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
    def method(self) -> Method:
        """Of the levels that the job wants, until it is known which ones devices can hold."""
        return self._model.method if self._model else self._make_method(self._job.method.levels)

    def assigned(self, cohort: Mapping[str, Assignment], closes_at_s: float) -> None:
        """Note who takes part, and until when: a restarted aggregator goes on with both."""
        self.open_round = replace(self.open_round, cohort=cohort, closes_at_s=closes_at_s)
        self.note()

    def closed(self, folded: Folded, parts: Sequence[FoldedUpdate]) -> bool:
        """Take in the present round and go to the next; returns whether shared masks changed.

        Args:
            folded, parts: of `fold_round`.

        Raises:
            OSError: the checkpoint cannot be written; the round is then still the present one.
        """
        before = self.model.own_masks
        try:
            if self.round.stage is Stage.TRAIN:
                self.trained_levels |= {report.level for report in folded.reports}
            changed = self.model.absorb(self.round.stage, self.round.index, folded, self._job.seed)
            self.norms = self.norms.followed_by(folded.norms)
            following = self._successor()
            self._save(*following)
        except OSError:
            self._step_back()
            raise
        self._noting(lambda: self._jobs.close(self.open_round.round_id, parts, self._calendar()))
        self._tidy(before.values())
        self.round, self.open_round = self._next_offer(*following)
        return changed

    def repeat(self) -> None:
        """Nobody delivered: the same round is to be offered again, to whoever is there."""
        self.open_round = replace(
            self.open_round, cohort={}, closes_at_s=None, repeats=self.open_round.repeats + 1
        )
        self.round, self.open_round = self._go_on(self.open_round, self.round.stage)

    def note(self) -> None:
        """Write down how the open round stands; where that fails, `unnoted` says why."""
        self._noting(self._write_note)

    def _write_note(self) -> None:
        if self._unsaved:  # the first model: no note may name a round of one that is not kept
            self._save(self.round.round_id, self.round.stage)
        self._jobs.note(self.open_round, self._calendar())

    def _noting(self, write: Callable[[], None]) -> None:
        """A note that cannot be written costs a restarted aggregator the open round at most."""
        try:
            write()
        except (StoreError, OSError) as error:
            self.unnoted = error
        else:
            self.unnoted = None

    def _step_back(self) -> None:
        """To the model of the last checkpoint: a round is taken in wholly or not at all."""
        if self._kept is None:
            raise LocalProtocolError("a round was closed before the first checkpoint")
        self._adopt(self._kept.state, self._kept.own_masks)
        self.trained_levels = self._kept.trained_levels
        self.norms = self._kept.norms

    def _tidy(self, also_needed: Collection[str]) -> None:
        """Remove what neither this checkpoint nor the one before it needs; later, if not now."""
        try:
            forget_old(self._job.output)
            self.model.tidy(also_needed)
        except OSError as error:
            log.warning("not_removed=%r", str(error))

    def _successor(self) -> tuple[int, Stage]:
        following = self.round.round_id + 1
        if following <= self._job.rounds:
            return following, Stage.TRAIN
        if self._evaluate_on_devices and self.round.stage is not Stage.EVALUATE:
            return following, Stage.EVALUATE
        return following, Stage.DONE

    def _next_offer(self, round_id: int, stage: Stage) -> tuple[Round, OpenRound]:
        """The round to be offered; one that was open before goes on as a further attempt."""
        known = self._known_round(round_id)
        if known is None:
            return self._go_on(OpenRound(round_id=round_id, attempt=-1), stage)
        if self._model is None:  # it was never kept: nobody can have trained it
            known = replace(known, cohort={}, closes_at_s=None)
        return self._go_on(known, stage)

    def _known_round(self, round_id: int) -> OpenRound | None:
        try:
            return self._jobs.open_round(round_id)
        except (StoreError, ValueError) as error:
            log.error("round=%d notes=unreadable reason=%r", round_id, str(error))
            return None

    def _go_on(self, known: OpenRound, stage: Stage) -> tuple[Round, OpenRound]:
        """A further attempt of a round."""
        self.open_round = current = replace(known, attempt=known.attempt + 1)
        now = Round(
            round_id=current.round_id,
            attempt=current.attempt,
            repeats=current.repeats,
            stage=stage,
            index=min(max(0, current.round_id - 1), self._job.rounds - 1),
            evaluate=self._evaluate_on_devices and stage in (Stage.TRAIN, Stage.EVALUATE),
            run=self._jobs.run,
        )
        self.note()
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
            norms=self.norms,
        )
        self._kept = checkpoint if self._kept is None else self._kept
        save_checkpoint(self._job.output, checkpoint)
        self._kept, self._unsaved = checkpoint, False
