"""Drives a job: real time, real messages and the spool around `ServerRounds`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from aggregator.accumulate import Score
from aggregator.bounded_diary import BoundedDiary
from aggregator.course import Course
from aggregator.devices import Statuses
from aggregator.disk import DISK_ERRORS, DiskWatch, Reserve
from aggregator.events import Diary
from aggregator.folding import Asking, fold_round
from aggregator.intake import Intake
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.models.graph_file import load_graph
from aggregator.norms import norms_of
from aggregator.open_round import Assignment, JobStore
from aggregator.recovery import redo_damaged, tell_damage
from aggregator.report import Measured, RoundReport, Waiting, measured, ready_fields, update_fields
from aggregator.scoring import ScoreKeeper, Scores, Scoring, Unscored, open_scoring
from aggregator.sending import Sender
from aggregator.spool import Spool
from aggregator.tasks import Addressee
from aggregator.traffic import Traffic
from aggregator.updates import read_update
from fedsparse.body import Body
from fedsparse.errors import LocalProtocolError
from fedsparse.methods.statistics import running_positions
from fedsparse.plan import Plan
from fedsparse.rounds import server
from fedsparse.rounds.server import Phase, ServerRounds
from fedsparse.transport.base import Connected, Disconnected
from fedsparse.transport.channel import (
    MAX_PEERS,
    Announced,
    Channel,
    ChannelEvent,
    Delivered,
    Rejected,
)
from fedsparse.transport.limiter import Telling
from fedsparse.wire.messages import Failure, Need, Offer, Ready, Status, Update

log = logging.getLogger("aggregator")

LONGEST_WAIT_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Aggregator:
    """One job on the gateway, from its first offer to its finished model.

    Args:
        job, plan: what is trained.
        channel: the way to the devices.
        events: the job's diary.
        jobs: keeps what a restarted aggregator must know beside the checkpoints.
        scoring: says how good the model is; by default as the job wants it.
        clock: seconds that never go back.
        calendar: seconds since 1970, which may jump.

    Raises:
        ConfigError: the output folder holds another job, or a file of the job is invalid.
        StoreError, OSError: the disk takes nothing.
    """

    def __init__(
        self,
        job: JobConfig,
        plan: Plan,
        channel: Channel,
        events: Diary,
        jobs: JobStore,
        *,
        scoring: Scoring | None = None,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._job = job
        self._plan = plan
        self._channel = channel
        self._events = BoundedDiary(events, clock)
        self._clock = clock
        self._calendar = calendar
        graph = load_graph(job.plan, plan)
        scoring = scoring or open_scoring(job, plan, graph if plan.is_opaque else None)
        self._scores = ScoreKeeper(scoring, events)
        on_devices = self._scores.on_devices
        self._course = Course(job, plan, jobs, evaluate_on_devices=on_devices, calendar=calendar)
        self._spool = Spool(job.output / "spool")
        self._disk = DiskWatch(Reserve.of(job.output, plan), events)
        redo_damaged(job, plan, self._course, self._spool, jobs, events)
        self._machine = ServerRounds(job.policy, started=self._course.resumed)
        self._traffic = Traffic(channel)
        self._sender = Sender(job, plan, graph, self._course, channel, self._traffic, events)
        self._intake = Intake(
            self._spool,
            self._machine,
            self._sender,
            check=self._check,
            perform=self._perform,
            stored=self._stored,
            rejected=self._reject,
            failed=lambda error: self._disk.failed(error, self._clock(), vital=False),
            clock=clock,
        )
        self._running = running_positions(plan)
        self._statuses = Statuses()
        self._telling = Telling(MAX_PEERS, clock, at_once=20, per_s=1 / 30)
        self._measured: list[Measured] = []
        self._opened_s = self._tell_s = 0.0
        self._offer_again_s = math.inf  # where it could not be sent
        self._reopen_s = math.inf
        self._unclosed: tuple[str, ...] | None = None  # devices of a round that awaits room

    @property
    def done(self) -> bool:
        """Whether all rounds are over."""
        return self._course.done

    @property
    def model(self) -> GlobalModel:
        """The model, from the first answers on."""
        return self._course.model

    @property
    def trained_levels(self) -> list[float]:
        """The levels that devices have trained, largest first."""
        return sorted(self._course.trained_levels, reverse=True)

    @property
    def scores(self) -> Scores:
        """The latest ones."""
        return self._scores.latest

    @property
    def evaluated_on(self) -> str:
        """`gateway` or `devices`."""
        return "devices" if self._scores.on_devices else "gateway"

    def run(self) -> None:
        """Work until the job is done."""
        self._events.write(
            "job_started",
            job=self._job.name,
            method=self._job.method.name,
            seed=self._job.seed,
            levels=list(self._job.method.levels),
            num_prunable=self._plan.num_prunable,
            num_dense=self._plan.num_dense,
            rounds=self._job.rounds,
            resumed=self._course.resumed,
        )
        try:
            if self._course.resumed:
                self._score(self._course.round.round_id - 1, reported={})
            self._open()
            while not self.done:
                self.step()
            self._scores.tell(wait=True)
        finally:
            self._scores.close()

    def step(self) -> None:
        """Wait for the next thing to happen, and deal with it and what else has come meanwhile."""
        now_s = self._clock()
        if now_s >= self._reopen_s:
            self._reopen_s = math.inf
            self._open()
        if now_s >= self._offer_again_s:
            self._announce()
        if now_s >= self._disk.retry_at_s:
            self._try_again()
        due_s = min(self._reopen_s, self._disk.retry_at_s) - now_s
        wait_s = min(LONGEST_WAIT_S, self._machine.next_tick_s(now_s), max(0.0, due_s))
        self._on_event(self._channel.poll(wait_s))
        while self._intake and not self._intake.is_full and (event := self._next_at_once()):
            self._on_event(event)
        self._intake.commit()
        self._perform(self._machine.tick(self._clock()))
        self._scores.tell(wait=False)
        self._tell_of_waiting()

    def _next_at_once(self) -> ChannelEvent | None:
        """What has come already, for the batch that is being made up."""
        return self._channel.poll(0.0, hold=True)

    def _on_event(self, event: ChannelEvent | None) -> None:
        match event:
            case Announced() as announced:
                self._on_announced(announced)
            case Delivered() as delivered:
                self._on_message(delivered)
            case Rejected(device=device, reason=reason):
                self._reject(device, reason)
            case Disconnected(reason=reason):
                log.warning("broker=lost reason=%r", reason)
            case Connected():
                log.info("broker=connected")
                self._announce()  # a broker that was killed has forgotten what it retained

    def _tell_of_waiting(self) -> None:
        """A round that does not start says so from time to time, and whom it lacks."""
        now_s = self._clock()
        if self._machine.phase is not Phase.GATHERING or now_s < self._tell_s:
            return
        self._tell_s = now_s + max(LONGEST_PAUSE_S, self._job.cohort.gather_s)
        waiting = Waiting(
            now=self._course.round,
            needed=self._machine.needed,
            answers={name: self._machine.answer(name) for name in self._machine.online},
            salient=self._course.method.salient,
        )
        log.warning(waiting.line())
        self._events.write("round_waiting", **waiting.fields())

    def _open(self) -> None:
        """Offer the present round to all devices."""
        self._opened_s = self._clock()
        self._tell_s = self._opened_s + self._job.cohort.gather_s
        self._measured = []
        now, left_s = self._course.round, self._left_s()
        self._spool.clear(but=(now.round_id - 1, now.round_id))
        offer = self._announce(left_s)
        if self.done:
            return
        self._events.write(
            "round_opened",
            round=now.round_id,
            attempt=now.attempt,
            stage=now.stage.value,
            levels=list(offer.levels),
        )
        for damage in self._spool.open(now.round_id):
            tell_damage(self._events, now.round_id, damage)
        cohort = self._course.open_round.cohort
        self._perform(
            self._machine.open(
                now.round_id,
                now.stage,
                offer.levels,
                self._opened_s,
                cohort={device: one.level for device, one in cohort.items()},
                delivered={d: digest for d, digest in self._spool.digests.items() if d in cohort},
                seconds_left=left_s,
            )
        )

    def _left_s(self) -> float | None:
        """Of a round that was open when the aggregator ended; None of a new one.

        Devices that waited for the aggregator have time to deliver. A calendar that jumped ends the
        round early, or gives it its whole time once more.
        """
        closes_at_s, cohort = self._course.open_round.closes_at_s, self._job.cohort
        if closes_at_s is None:
            return None
        left_s = max(closes_at_s - self._calendar(), cohort.gather_s)
        return min(left_s, cohort.deadline_s)

    def _announce(self, left_s: float | None = None) -> Offer:
        """Publish the offer of the present round; devices take a repeated one as a reminder.

        Args:
            left_s: of the round; by default as the state machine has it.
        """
        now_s = self._clock()
        offer, is_out = self._sender.offer(
            self._machine.seconds_left(now_s) if left_s is None else left_s
        )
        self._offer_again_s = math.inf if is_out else now_s + LONGEST_WAIT_S
        return offer

    # What the state machine asks for

    def _perform(self, effects: list[server.Effect]) -> None:
        cohort_noted = False
        for effect in effects:
            match effect:
                case server.Start(levels=levels):
                    self._start(levels)
                case server.Assign(device=device, level=level):
                    if not cohort_noted:
                        self._note_cohort()
                    cohort_noted = True
                    self._assign(device, level)
                case server.SendPlan(device=device):
                    self._sender.plan(device)
                case server.Close(devices=devices):
                    self._close(devices)
                case server.Repeat():
                    self._repeat()

    def _start(self, levels: tuple[float, ...]) -> None:
        self._course.start(levels)
        self._see_notes()

    def _note_cohort(self) -> None:
        """On the disk before the first task: a restarted aggregator goes on with the same one."""
        before = self._course.open_round.cohort
        if not before:
            self._spool.begin(self._course.round.round_id)
        cohort = {}
        for device, level in self._machine.cohort().items():
            answer = self._machine.answer(device)
            number = answer.num_examples if answer is not None else before[device].num_examples
            cohort[device] = Assignment(level=level, num_examples=number)
        left_s = self._machine.seconds_left(self._clock())
        self._course.assigned(cohort, self._calendar() + left_s)
        self._see_notes()

    def _see_notes(self) -> None:
        """What could not be noted is to be noted later."""
        if self._course.unnoted is not None:
            self._disk.failed(self._course.unnoted, self._clock())

    def _assign(self, device: str, level: float) -> None:
        ready = self._machine.answer(device)
        if ready is None:
            raise LocalProtocolError(f"{device} has a task but gave no answer")
        self._send_task(Addressee(device=device, level=level, held=ready.held))

    def _send_task(self, to: Addressee) -> None:
        self._sender.task(to, self._machine.seconds_left(self._clock()))

    @property
    def _asking(self) -> Asking:
        return Asking(job=self._job, plan=self._plan, model=self.model, now=self._course.round)

    def _close(self, devices: tuple[str, ...]) -> None:
        """Fold the round, keep the result, and go on to the next; later where there is no room."""
        self._unclosed = None
        try:
            self._fold(devices)
        except DISK_ERRORS as error:
            self._unclosed = devices
            self._disk.failed(error, self._clock())

    def _fold(self, devices: tuple[str, ...]) -> None:
        """Where scoring takes longer than rounds do, it is waited for here: no deadline runs."""
        self._scores.tell(wait=True)
        now, cohort = self._course.round, len(self._course.open_round.cohort)
        folded, parts = fold_round(
            self._asking,
            self._spool,
            devices,
            lambda damage: tell_damage(self._events, now.round_id, damage),
        )
        if not folded.reports:  # the disk has damaged them all
            self._machine.forget_closed()
            self._repeat()
            return
        changed = self._course.closed(folded, parts)
        self._see_notes()
        report = RoundReport(
            now=now,
            wall_s=self._clock() - self._opened_s,
            updates=len(folded.reports),
            measured=tuple(self._measured),
            cohort=cohort,
            mask_changed=changed,
            loss=folded.loss,
            norms=folded.norms,
            traffic=self._traffic.close(),
        )
        self._events.write("round_closed", **report.fields())
        self._score(now.round_id, reported=folded.scores)
        self._open()

    def _score(self, round_id: int, *, reported: Mapping[float, Score]) -> None:
        """Begin to score the model that a round left."""
        self._scores.begin(Unscored(round_id=round_id, state=self.model.state, reported=reported))

    def _repeat(self) -> None:
        """Nobody delivered: offer the round again, a little later each time."""
        now = self._course.round
        pause_s = min(LONGEST_PAUSE_S, 0.5 * 2 ** min(now.attempt, 10))
        log.warning("round=%d updates=0 again_in=%.1f", now.round_id, pause_s)
        self._events.write("round_repeated", round=now.round_id, again_in_s=pause_s)
        self._course.repeat()
        self._see_notes()
        self._reopen_s = self._clock() + pause_s

    def _try_again(self) -> None:
        """Write what the disk did not take; once it does, devices are to send what it refused."""
        if self._unclosed is not None:
            self._close(self._unclosed)
        if self._unclosed is None and self._course.unnoted is not None:
            self._course.note()
        behind = self._unclosed is not None or self._course.unnoted is not None
        if not self._disk.try_again(self._clock(), behind=behind):
            return
        self._announce()

    # What devices say

    def _on_message(self, delivered: Delivered) -> None:
        device, message = delivered.device, delivered.message
        if isinstance(message, Update) and self._is_of_this_run(message):
            self._intake.take(device, message, delivered.body)
            return
        self._intake.commit()  # in the order in which they came: the round may close over it
        if isinstance(message, Status):
            self._on_status(device, message)
            return
        if getattr(message, "job", self._job.name) != self._job.name:
            self._reject(device, f"{type(message).__name__} for another job")
            return
        if isinstance(message, Update):
            self._reject(device, "an update of another run of the job")
            return
        match message:
            case Ready():
                self._on_ready(device, message)
            case Failure(round_id=round_id, reason=reason):
                self._events.write("device_failed", round=round_id, device=device, reason=reason)
                self._perform(self._machine.failed(device, round_id, self._clock()))
            case Need():
                self._on_need(device, message)

    def _on_announced(self, announced: Announced) -> None:
        """Have the body of an update come where it is wanted; else that is said before it is."""
        device, update = announced.device, announced.message
        if not isinstance(update, Update) or not self._is_of_this_run(update):
            self._reject(device, f"a body of a {type(update).__name__} that nobody wants")
        elif self._intake.wants(device, update, announced.absent.digest):
            self._channel.accept(announced)

    def _is_of_this_run(self, update: Update) -> bool:
        """What was made in an earlier run, and comes again, is not to count twice."""
        return (update.job, update.run) == (self._job.name, self._course.round.run)

    def _on_status(self, device: str, status: Status) -> None:
        for event, fields in self._statuses.news(status):
            self._events.write(event, device=device, **fields)
        change = self._machine.device_online if status.online else self._machine.device_offline
        self._perform(change(device, self._clock()))

    def _on_ready(self, device: str, ready: Ready) -> None:
        if ready.has_plan and ready.round_id == self._course.round.round_id:
            self._events.write("device_ready", device=device, **ready_fields(ready))
        self._perform(self._machine.answered(device, ready, self._clock()))

    def _on_need(self, device: str, need: Need) -> None:
        """A device of the cohort lost a mask that it had: send its task with the mask."""
        level = self._machine.cohort().get(device)
        if need.what == "mask" and level is not None:
            self._send_task(Addressee(device=device, level=level, held=()))

    def _check(self, device: str, update: Update, body: Body) -> None:
        """Check what a device of the cohort sent against what it was asked for."""
        given = self._course.open_round.cohort[device]
        asked = self._asking.of(device, given.level, given.num_examples)
        found = read_update(self._plan, asked, update, body.read())
        if self._job.cohort.bound_norms:
            moved = norms_of(found, self._running)
            self._course.norms.check(update.level, moved, self._course.round.repeats)

    def _stored(self, device: str, update: Update) -> None:
        """An update is on the disk."""
        self._traffic.of(device).received(update.parts)
        self._measured.append(measured(update))
        self._events.write("update", device=device, **update_fields(update))

    def _reject(self, device: str, reason: str) -> None:
        if self._telling.of(device) is None:
            return  # of a flood few lines are told
        log.warning("rejected=%s reason=%r", device or "unknown", reason)
        self._events.write("rejected", device=device, reason=reason)
