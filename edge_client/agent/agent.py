"""The resident agent: hears offers, answers them, runs trainers, delivers what they made."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from typing import Final

from edge_client.agent.answers import Answers
from edge_client.agent.choice import Answer, CalibrationMissing, Chooser, PlanMissing
from edge_client.agent.ledger import Learner, Ledger
from edge_client.agent.outbox import UpdateOutbox
from edge_client.agent.process import TRAINER, Outcome, TrainerProcess
from edge_client.agent.trust import enrolled
from edge_client.budget.policy_file import PolicyFile
from edge_client.config import ClientConfig
from edge_client.host import Host
from edge_client.memory import peak_rss_bytes
from edge_client.store import Store
from edge_client.trainer.request import CalibrateRequest, TrainRequest
from fedsparse.body import Body, File
from fedsparse.errors import FedSparseError
from fedsparse.rounds import client
from fedsparse.rounds.client import ClientRounds, Phase
from fedsparse.stored import load_message, save_message
from fedsparse.transport.base import Connected, Disconnected
from fedsparse.transport.channel import Announced, Channel, Delivered, Rejected
from fedsparse.wire.frame import Absent
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import (
    MAX_TEXT,
    Failure,
    Message,
    Need,
    Offer,
    Ready,
    Receipt,
    Task,
    Verdict,
)
from fedsparse.wire.topics import Branch, Topics

log = logging.getLogger("edge-client")

CALIBRATION_LIMIT_S: Final = 120.0
BUSY_POLL_S: Final = 0.02
IDLE_POLL_S: Final = 5.0
RECEIPT_S: Final = 20.0  # so long without a receipt, an update is sent again
HEAT_S: Final = 5.0  # how often the temperature is read while a task is at work


class Agent:
    """One device's agent.

    Args:
        config: who the device is, and what it may use.
        store: its disk.
        host: where its means are read.
        channel: its way to the aggregator.
        trainer: the command that starts a trainer.

    Raises:
        ConfigError: the policy is missing or invalid.
    """

    def __init__(
        self,
        config: ClientConfig,
        store: Store,
        host: Host,
        channel: Channel,
        trainer: Sequence[str] = TRAINER,
    ) -> None:
        self._config = config
        self._store = store
        self._channel = channel
        self._ledger = Ledger(store)
        self._chooser = Chooser(
            config=config,
            store=store,
            host=host,
            policy=PolicyFile(config.policy),
            ledger=self._ledger,
        )
        self._answers = Answers(self._chooser, self._ledger, channel)
        self._outbox = UpdateOutbox(store)
        self._identity = enrolled(config)
        self._command = trainer
        self._rounds = ClientRounds()
        self._trainer: TrainerProcess | None = None
        self._calibrating = False
        self._task: Task | None = None
        self._upload_again_s = 0.0
        self._heat_s = 0.0

    def step(self) -> None:
        """Wait for the next thing to happen, and deal with it."""
        match self._channel.poll(BUSY_POLL_S if self._trainer else IDLE_POLL_S):
            case Connected():
                log.info("broker=connected")
            case Disconnected(reason=reason):
                log.warning("broker=lost reason=%r", reason)
            case Rejected(reason=reason):
                log.warning("rejected=%r", reason)
            case Announced() as announced:
                self._on_announced(announced)
            case Delivered(message=message, body=body):
                self._on_message(message, body)
        self._watch_trainer()
        if self._rounds.phase is Phase.UPLOADING and time.monotonic() >= self._upload_again_s:
            self._upload()  # a broker may acknowledge an update and lose it
        offer = self._rounds.offer
        if self._rounds.phase is Phase.IDLE and self._answers.has_changed(offer) and offer:
            self._perform(self._rounds.offered(offer))

    def close(self) -> None:
        """End the trainer, and say goodbye."""
        if self._trainer is not None:
            self._trainer.stop()
        self._channel.close()

    def _on_announced(self, announced: Announced) -> None:
        """Have the body of a task come, unless it is there from before a restart."""
        task = announced.message
        if not isinstance(task, Task) or not self._wants(task):
            return
        if (body := self._kept_body(announced.absent)) is not None:
            self._perform(self._rounds.assigned(task, body))
        else:
            self._channel.accept(announced)

    def _wants(self, task: Task) -> bool:
        """Whether a task is waited for, and is what this device has said that it can bear.

        Answers are not signed: somebody else may have given one in its name.
        """
        if not self._rounds.wants(task):
            return False
        if task.brings_plan or self._answers.accepts(task):
            return True
        log.warning("ignored=Task round=%d level=%g: not the one taken", task.round_id, task.level)
        return False

    def _kept_body(self, absent: Absent) -> File | None:
        try:
            _, body = load_message(self._store.task_head)
        except (OSError, FedSparseError):
            return None
        is_it = isinstance(body, File) and body.digest == absent.digest and body.verify()
        return body if isinstance(body, File) and is_it else None

    def _on_message(self, message: Message, body: Body) -> None:
        match message:
            case Offer():
                self._perform(self._rounds.offered(message))
            case Task():
                if self._wants(message):
                    self._perform(self._rounds.assigned(message, body))
            case Receipt():
                self._on_receipt(message)
            case _:
                log.warning("ignored=%s", type(message).__name__)

    def _on_receipt(self, receipt: Receipt) -> None:
        waiting = self._outbox.read()
        if waiting is None:
            return
        effects = self._rounds.received(receipt, waiting[1].digest)
        if effects:
            level = logging.INFO if receipt.verdict is Verdict.ACCEPTED else logging.WARNING
            log.log(
                level,
                "round=%d update=%s reason=%r",
                receipt.round_id,
                receipt.verdict.value,
                receipt.reason,
            )
            if receipt.verdict is Verdict.ACCEPTED:
                self._store.keep_lost()
        self._perform(effects)

    def _perform(self, effects: list[client.Effect]) -> None:
        for effect in effects:
            match effect:
                case client.Decide(offer=offer):
                    self._decide(offer)
                case client.AnswerAgain():
                    self._answers.send()
                case client.KeepPlan(task=task, body=body):
                    self._keep_plan(task, body)
                case client.Train(task=task, body=body):
                    self._train(task, body)
                case client.StopTraining():
                    self._stop_trainer()
                case client.Upload():
                    self._upload()
                case client.ClearOutbox():
                    self._store.clear_outbox()

    def _decide(self, offer: Offer) -> None:
        """Answer an offer, unless its update is waiting or something is missing first."""
        if self._calibrating:
            return  # the answer follows when the measurement is done
        if self._outbox.is_for(offer):
            self._perform(self._rounds.in_outbox())
            return
        match self._answers.find(offer):
            case CalibrationMissing(request=request):
                log.info("calibrating=yes plan=%s", offer.plan_digest[:12])
                self._calibrate(request)
            case PlanMissing():
                self._answers.ask_for_plan(offer)
            case Answer() as answer:
                self._answers.give(answer)
                self._answered(answer.ready)

    def _answered(self, ready: Ready) -> None:
        """Wait for what follows an answer."""
        self._rounds.decided(takes_part=ready.level is not None)
        log.info("round=%d level=%s reason=%r", ready.round_id, ready.level, ready.reason)

    def _keep_plan(self, task: Task, body: Body) -> None:
        parts = split_parts(task.parts, body.read())
        graph = bytes(parts["graph"][1]) if "graph" in parts else b""
        try:
            self._store.save_plan(task.plan_digest, bytes(parts["plan"][1]), graph)
        except FedSparseError as error:
            log.warning("plan=%s refused=%r", task.plan_digest[:12], str(error))
            return
        if self._rounds.offer is not None:
            self._decide(self._rounds.offer)

    def _calibrate(self, request: CalibrateRequest) -> None:
        self._calibrating = True
        try:
            self._start_trainer(request, CALIBRATION_LIMIT_S)
        except OSError as error:
            self._calibrated(Outcome(reason=f"the trainer cannot be started: {error}"))

    def _train(self, task: Task, body: Body) -> None:
        self._task = task
        request = TrainRequest(
            task=str(self._store.task_head),
            plan=str(self._store.plan_path(task.plan_digest)),
            masks=str(self._store.masks),
            data=str(self._config.data.path),
            holdout=self._config.data.holdout,
            output=str(self._store.outbox),
            setup=self._answers.setup_for(task),
            agent_rss_bytes=peak_rss_bytes(),
            residual=str(self._store.residual),
            lost=str(self._store.lost),
            graph=self._graph_of(task),
            identity=str(self._identity.device) if self._identity else "",
            topic=Topics(self._config.site).message(Branch.UP, self._config.device),
        )
        try:
            save_message(self._store.task_head, task, body)
            self._start_trainer(request, task.seconds_left)
        except OSError as error:
            self._give_up(f"the trainer cannot be started: {error}")

    def _graph_of(self, task: Task) -> str:
        """The file of the task's training graph; empty where the plan has none."""
        plan = self._store.load_plan(task.plan_digest)
        return str(self._store.graph_path(plan) or "") if plan is not None else ""

    def _start_trainer(self, request: TrainRequest | CalibrateRequest, limit_s: float) -> None:
        self._trainer = TrainerProcess(request, self._store.task, limit_s, self._command)

    def _watch_trainer(self) -> None:
        outcome = self._trainer.poll() if self._trainer else None
        if outcome is None:
            self._watch_heat()
            return
        self._trainer = None
        if self._calibrating:
            self._calibrated(outcome)
        elif outcome.mask_missing and self._task is not None:
            self._rounds.mask_missing()
            need = Need(what="mask", job=self._task.job, round_id=self._task.round_id)
            self._channel.send(None, need)
        elif outcome.reason:
            self._learn_from_failure(outcome)
            self._give_up(outcome.reason)
        elif (made := self._outbox.read()) is None:
            self._give_up("the trainer left no update")
        else:
            learner = self._learner()
            if learner is not None and self._task is not None:
                self._ledger.trained(learner, self._task, made[0], outcome.seconds)
            self._perform(self._rounds.trained())

    def _learn_from_failure(self, outcome: Outcome) -> None:
        if outcome.bad_data:
            self._answers.data_are_bad(outcome.reason)
        learner = self._learner()
        if learner is None or self._task is None:
            return
        if outcome.no_memory:
            self._ledger.killed(learner, self._task)
        elif outcome.too_late:
            self._ledger.late(learner, self._task)

    def _learner(self) -> Learner | None:
        answer = self._answers.current
        return answer.learner if answer is not None else None

    def _watch_heat(self) -> None:
        """A task that has begun is finished, but for a temperature beyond the policy's limit."""
        if self._calibrating or self._trainer is None or time.monotonic() < self._heat_s:
            return
        self._heat_s = time.monotonic() + HEAT_S
        if reason := self._chooser.stop_reason():
            self._stop_trainer()
            self._give_up(reason)

    def _calibrated(self, outcome: Outcome) -> None:
        self._calibrating = False
        offer = self._rounds.offer
        if self._rounds.phase is not Phase.DECIDING or offer is None:
            return
        if not outcome.reason:
            self._decide(offer)
            return
        log.error("calibration=failed reason=%r", outcome.reason)
        answer = self._chooser.decline(offer, f"calibration failed: {outcome.reason}")
        self._answers.give(answer)
        self._answered(answer.ready)

    def _give_up(self, reason: str) -> None:
        """The task cannot be done: tell the operator, and wait for the next round."""
        effects = self._rounds.failed()
        if self._task is not None:
            log.error("round=%d failed=%r", self._task.round_id, reason)
            failure = Failure(
                job=self._task.job, round_id=self._task.round_id, reason=reason[:MAX_TEXT]
            )
            self._channel.send(None, failure)
        self._perform(effects)

    def _stop_trainer(self) -> None:
        if self._trainer is not None and not self._calibrating:
            self._trainer.stop()
            self._trainer = None

    def _upload(self) -> None:
        wait_s = random.uniform(1.0, 1.5) * RECEIPT_S  # noqa: S311 (a fleet must not be in step)
        self._upload_again_s = time.monotonic() + wait_s
        waiting = self._outbox.read()
        if waiting is None:
            log.error("outbox=lost; the device takes part again in the next round")
        else:
            self._channel.send(None, *waiting)
