"""Drives a job: real time, real messages and the spool around `ServerRounds`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from aggregator.accumulate import Score, fold
from aggregator.course import Course
from aggregator.devices import Statuses
from aggregator.events import BoundedDiary, Diary
from aggregator.job import JobConfig
from aggregator.model import GlobalModel
from aggregator.models.graph_file import load_graph
from aggregator.report import Measured, RoundReport, Waiting, measured, ready_fields, update_fields
from aggregator.scoring import ScoreKeeper, Scores, Scoring, Unscored, open_scoring
from aggregator.spool import Spool
from aggregator.tasks import Addressee, encoding_of, make_task, plan_task
from aggregator.traffic import Traffic
from aggregator.updates import Asked, Contribution, read_update
from fedsparse.body import NO_BODY, Body
from fedsparse.errors import LocalProtocolError, RemoteProtocolError, TransportError
from fedsparse.plan import Plan
from fedsparse.rounds import server
from fedsparse.rounds.server import Phase, ServerRounds
from fedsparse.transport.base import Connected, Disconnected
from fedsparse.transport.channel import MAX_PEERS, Announced, Channel, Delivered, Rejected
from fedsparse.transport.limiter import Telling
from fedsparse.types import BoolArray
from fedsparse.wire.messages import (
    MAX_TEXT,
    Failure,
    Message,
    Need,
    Offer,
    Ready,
    Receipt,
    Stage,
    Status,
    Update,
    Verdict,
)

log = logging.getLogger("aggregator")

LONGEST_WAIT_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Aggregator:
    """One job on the gateway, from its first offer to its finished model.

    Args:
        job, plan: what is trained.
        channel: the way to the devices.
        events: the job's diary.
        scoring: says how good the model is; by default as the job wants it.
        clock: seconds that never go back.
        calendar: seconds since 1970, which may jump.

    Raises:
        ConfigError: the output folder holds another job, or a file of the job is invalid.
    """

    def __init__(
        self,
        job: JobConfig,
        plan: Plan,
        channel: Channel,
        events: Diary,
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
        self._graph = graph.to_bytes() if graph is not None else b""
        scoring = scoring or open_scoring(job, plan, graph if plan.is_opaque else None)
        self._scores = ScoreKeeper(scoring, events)
        self._course = Course(job, plan, evaluate_on_devices=self._scores.on_devices)
        self._machine = ServerRounds(job.policy, started=self._course.resumed)
        self._spool = Spool(job.output / "spool")
        self._traffic = Traffic(channel)
        self._statuses = Statuses()
        self._telling = Telling(MAX_PEERS, clock, at_once=20, per_s=1 / 30)
        self._asked: dict[str, Asked] = {}
        self._measured: list[Measured] = []
        self._opened_s = self._tell_s = 0.0
        self._offer_again_s = math.inf  # where it could not be sent
        self._reopen_s = math.inf

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
        """Wait for the next thing to happen, and deal with it."""
        now_s = self._clock()
        if now_s >= self._reopen_s:
            self._reopen_s = math.inf
            self._open()
        if now_s >= self._offer_again_s:
            self._announce()
        wait_s = min(
            LONGEST_WAIT_S, self._machine.next_tick_s(now_s), max(0.0, self._reopen_s - now_s)
        )
        match self._channel.poll(wait_s):
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
        self._perform(self._machine.tick(self._clock()))
        self._scores.tell(wait=False)
        self._tell_of_waiting()

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
        self._asked, self._measured = {}, []
        now, left_s = self._course.round, self._left_s()
        self._spool.clear(but=now.round_id)
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
        cohort = self._course.open_round.cohort
        self._asked = {device: self._ask(device, level) for device, level in cohort.items()}
        stored = self._stored(now.round_id)
        self._perform(
            self._machine.open(
                now.round_id,
                now.stage,
                offer.levels,
                self._opened_s,
                cohort=cohort,
                delivered={device: stored[device] for device in stored if device in cohort},
                seconds_left=left_s,
            )
        )

    def _stored(self, round_id: int) -> dict[str, str]:
        """Digests by device of the updates that are in the spool, undamaged."""
        found = self._spool.digests(round_id)
        for device in (name for name, digest in found.items() if digest is None):
            self._tell_damaged(round_id, device, "its checksum is wrong")
        return {device: digest for device, digest in found.items() if digest is not None}

    def _tell_damaged(self, round_id: int, device: str, reason: str) -> None:
        """An update that has its receipt is not lost without a word."""
        log.error("round=%d update_damaged=%s reason=%r", round_id, device, reason)
        self._events.write("update_damaged", round=round_id, device=device, reason=reason)

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
        left_s = self._machine.seconds_left(now_s) if left_s is None else left_s
        offer = self._course.offer(max(0.001, left_s))
        is_out = self._send(None, offer)
        self._offer_again_s = math.inf if is_out else now_s + LONGEST_WAIT_S
        return offer

    def _send(self, device: str | None, message: Message, body: Body = NO_BODY) -> bool:
        """Send; whether that could be taken. If not, the next offer makes devices ask for it."""
        try:
            self._channel.send(device, message, body)
        except TransportError as error:
            log.error("not_sent=%s to=%s reason=%r", type(message).__name__, device, str(error))
            return False
        return True

    # What the state machine asks for

    def _perform(self, effects: list[server.Effect]) -> None:
        cohort_noted = False
        for effect in effects:
            match effect:
                case server.Start(levels=levels):
                    self._course.start(levels)
                case server.Assign(device=device, level=level):
                    if not cohort_noted:
                        left_s = self._machine.seconds_left(self._clock())
                        self._course.assigned(
                            dict(self._machine.cohort()), self._calendar() + left_s
                        )
                    cohort_noted = True
                    self._assign(device, level)
                case server.SendPlan(device=device):
                    task, text = plan_task(self._job, self._plan, self._course.round, self._graph)
                    self._send(device, task, text)
                    self._traffic.of(device).sent(task.parts)
                case server.Close(devices=devices):
                    self._close(devices)
                case server.Repeat():
                    self._repeat()

    def _assign(self, device: str, level: float) -> None:
        ready = self._machine.answer(device)
        if ready is None:
            raise LocalProtocolError(f"{device} has a task but gave no answer")
        self._asked[device] = self._ask(device, level)
        self._send_task(Addressee(device=device, level=level, held=ready.held))

    def _send_task(self, to: Addressee) -> None:
        seconds_left = max(0.001, self._machine.seconds_left(self._clock()))
        task, body = make_task(self._job, self.model, self._course.round, to, seconds_left)
        self._send(to.device, task, body)
        self._traffic.of(to.device).sent(task.parts)
        self._events.write("task_sent", round=task.round_id, device=to.device, level=to.level)

    def _ask(self, device: str, level: float) -> Asked:
        stage = self._course.round.stage
        digest = self.model.mask_for(device, level, stage)
        encoding = encoding_of(self._job, self._course.round)
        answer = self._machine.answer(device)
        return Asked(
            stage=stage,
            level=level,
            mask_digest=digest,
            mask=lambda: self._known_mask(digest),
            base=lambda: self.model.base_under(digest, level, encoding),
            evolves=self._course.evolves,
            salient=self.model.method.salient,
            num_examples=answer.num_examples if answer is not None else None,
        )

    def _known_mask(self, digest: str) -> BoolArray:
        mask = self.model.known_mask(digest)
        if mask is None:
            raise LocalProtocolError(f"the mask {digest[:12]} of an open task was forgotten")
        return mask

    def _close(self, devices: tuple[str, ...]) -> None:
        """Fold the round, keep the result, and go on to the next.

        Where scoring takes longer than rounds do, it is waited for here: no deadline runs.
        """
        self._scores.tell(wait=True)
        now = self._course.round
        folded = fold(
            self._plan,
            devices,
            self._read_from_spool,
            self.model.state.weights,
            evolved=self.model.method.own_masks and now.stage is Stage.TRAIN,
            reference_compat=self.model.method.reference_compat,
            level_statistics=self._job.method.level_statistics,
        )
        if not folded.reports:  # the disk has damaged them all
            self._machine.forget_closed()
            self._repeat()
            return
        cohort = len(self._course.open_round.cohort)
        changed = self._course.closed(folded)
        report = RoundReport(
            now=now,
            wall_s=self._clock() - self._opened_s,
            updates=len(folded.reports),
            measured=tuple(self._measured),
            cohort=cohort,
            mask_changed=changed,
            loss=folded.loss,
            traffic=self._traffic.close(),
        )
        self._events.write("round_closed", **report.fields())
        self._score(now.round_id, reported=folded.scores)
        self._open()

    def _score(self, round_id: int, *, reported: Mapping[float, Score]) -> None:
        """Begin to score the model that a round left."""
        self._scores.begin(Unscored(round_id=round_id, state=self.model.state, reported=reported))

    def _read_from_spool(self, device: str) -> tuple[Update, Contribution] | None:
        """What a device delivered; None where the disk has damaged it."""
        round_id = self._course.round.round_id
        try:
            message, body = self._spool.load(round_id, device)
            if not isinstance(message, Update):
                raise RemoteProtocolError(f"a {type(message).__name__} is there in its place")
            return message, read_update(self._plan, self._asked[device], message, body)
        except (OSError, RemoteProtocolError) as error:
            self._tell_damaged(round_id, device, str(error))
            return None

    def _repeat(self) -> None:
        """Nobody delivered: offer the round again, a little later each time."""
        now = self._course.round
        pause_s = min(LONGEST_PAUSE_S, 0.5 * 2 ** min(now.attempt, 10))
        log.warning("round=%d updates=0 again_in=%.1f", now.round_id, pause_s)
        self._events.write("round_repeated", round=now.round_id, again_in_s=pause_s)
        self._course.repeat()
        self._reopen_s = self._clock() + pause_s

    # What devices say

    def _on_message(self, delivered: Delivered) -> None:
        device, message = delivered.device, delivered.message
        if isinstance(message, Status):
            self._on_status(device, message)
            return
        if getattr(message, "job", self._job.name) != self._job.name:
            self._reject(device, f"{type(message).__name__} for another job")
            return
        match message:
            case Ready():
                self._on_ready(device, message)
            case Update():
                self._on_update(device, message, delivered.body)
            case Failure(round_id=round_id, reason=reason):
                self._events.write("device_failed", round=round_id, device=device, reason=reason)
                self._perform(self._machine.failed(device, round_id, self._clock()))
            case Need():
                self._on_need(device, message)

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

    def _on_announced(self, announced: Announced) -> None:
        """Have the body of an update come where it is wanted; else say so before it is sent."""
        device, update = announced.device, announced.message
        if not isinstance(update, Update) or update.job != self._job.name:
            self._reject(device, f"a body of a {type(update).__name__} that nobody wants")
            return
        digest = announced.absent.digest
        verdict = self._machine.verdict(device, update.round_id, digest)
        if verdict is None:
            self._channel.accept(announced)
        else:
            self._answer(device, update, digest, verdict, _unasked(update, verdict))

    def _on_update(self, device: str, update: Update, body: Body) -> None:
        """Store an update that is wanted and good, then say what became of it."""
        verdict = self._machine.verdict(device, update.round_id, body.digest)
        if verdict is not None:
            self._answer(device, update, body.digest, verdict, _unasked(update, verdict))
            return
        verdict, reason = self._take(device, update, body)
        self._answer(device, update, body.digest, verdict, reason)
        if verdict is Verdict.ACCEPTED:
            self._traffic.of(device).received(update.parts)
            self._measured.append(measured(update))
            self._events.write("update", device=device, **update_fields(update))
            self._perform(self._machine.stored(device, body.digest, self._clock()))

    def _answer(
        self, device: str, update: Update, digest: str, verdict: Verdict, reason: str
    ) -> None:
        """Send the receipt of an update."""
        receipt = Receipt(
            job=self._job.name,
            round_id=update.round_id,
            update_digest=digest,
            verdict=verdict,
            reason=reason[:MAX_TEXT],
        )
        self._send(device, receipt)
        if verdict is Verdict.REJECTED:
            self._reject(device, reason)
            self._perform(self._machine.failed(device, update.round_id, self._clock()))

    def _take(self, device: str, update: Update, body: Body) -> tuple[Verdict, str]:
        """Check an update, and put it on the disk; a refusal says what is wrong with it."""
        try:
            read_update(self._plan, self._asked[device], update, body.read())
        except RemoteProtocolError as error:
            return Verdict.REJECTED, str(error)
        self._spool.store(device, update, body)
        return Verdict.ACCEPTED, ""

    def _reject(self, device: str, reason: str) -> None:
        if self._telling.of(device) is None:
            return  # of a flood few lines are told
        log.warning("rejected=%s reason=%r", device or "unknown", reason)
        self._events.write("rejected", device=device, reason=reason)


def _unasked(update: Update, verdict: Verdict) -> str:
    if verdict is not Verdict.REJECTED:
        return ""
    return f"an update for round {update.round_id} that was not asked for"
