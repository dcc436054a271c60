"""A gateway and a device as small as they can be: channel and state machine, and what drives them.

They do with every effect what agent and aggregator do with it, but for training and the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedsparse.body import Bytes
from fedsparse.rounds import client, server
from fedsparse.rounds.client import ClientRounds
from fedsparse.rounds.server import Policy, ServerRounds
from fedsparse.transport.channel import (
    Announced,
    Channel,
    ChannelEvent,
    Delivered,
    Rejected,
    status_will,
)
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.wire.messages import (
    Failure,
    Message,
    Offer,
    Part,
    Ready,
    Receipt,
    Stage,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.topics import Topics

TOPICS: Final = Topics("fuzz")
JOB: Final = "fuzz"
LEVELS: Final = (0.2, 0.1)
DIGEST: Final = "5a" * 32
SIZES: Final = (600, 4000)  # of bodies: one goes with its message, one in chunks
OPTIONS: Final = ChannelOptions(
    inline_bytes=1024,
    chunk_bytes=512,
    limits=Limits(transfer_bytes=2**20, stall_s=1.0, idle_s=20.0),
)
POLICY: Final = Policy(
    min_devices=1, min_sense_devices=1, expected_devices=0, participation=1.0, gather_s=2.0,
    deadline_s=30.0, offline_grace_s=3.0, quorum=1.0, sense_devices=1, rotate_levels=False, seed=0,
)  # fmt: skip


def body_of(name: str, round_id: int) -> Bytes:
    """What is sent in a round: short and long in turn."""
    size = SIZES[round_id % len(SIZES)]
    return Bytes(hashlib.shake_256(f"{name}/{round_id}".encode()).digest(size))


class End:
    """One end: a channel on the broker in memory.

    Attributes:
        refused, reached: payloads that the contract refused, and messages that came through.
    """

    def __init__(
        self, broker: MemoryBroker, clock: Callable[[], float], folder: Path, device: str
    ) -> None:
        self.refused = self.reached = 0
        self.clock = clock
        status = Status(device=device, online=True, session="1") if device else None
        self.channel = Channel(
            MemoryTransport(
                broker,
                client_id=device or "gateway",
                will=status_will(TOPICS, status) if status else None,
            ),
            TOPICS,
            device=device,
            spool=folder / (device or "gateway"),
            status=status,
            options=OPTIONS,
            clock=clock,
        )
        self.channel.start()

    def work(self) -> None:
        """Deal with all that has come."""
        while (event := self.channel.poll(0.0)) is not None:
            self.refused += isinstance(event, Rejected)
            self.reached += isinstance(event, Delivered | Announced)
            self.take(event)

    def take(self, event: ChannelEvent) -> None:
        """Deal with one."""
        raise NotImplementedError

    def remind(self) -> None:
        """Time has passed."""
        raise NotImplementedError


class FuzzDevice(End):
    """A device: offers to answers, tasks to updates."""

    def __init__(
        self, broker: MemoryBroker, clock: Callable[[], float], folder: Path, device: str
    ) -> None:
        super().__init__(broker, clock, folder, device)
        self.name = device
        self.rounds = ClientRounds()
        self.outbox: tuple[Update, Bytes] | None = None
        self._sent_s = 0.0

    def remind(self) -> None:
        """An update without its receipt is sent once more after a while."""
        if self.outbox is not None and self.clock() >= self._sent_s + 5.0:
            self._upload()

    def take(self, event: ChannelEvent) -> None:
        """As the agent does."""
        match event:
            case Announced(message=Task() as task) if self.rounds.wants(task):
                self.channel.accept(event)
            case Delivered(message=Offer() as offer):
                self._do(self.rounds.offered(offer))
            case Delivered(message=Task() as task, body=body):
                self._do(self.rounds.assigned(task, body))
            case Delivered(message=Receipt() as receipt) if self.outbox is not None:
                self._do(self.rounds.received(receipt, self.outbox[1].digest))
            case _:
                pass

    def _do(self, effects: list[client.Effect]) -> None:
        for effect in effects:
            match effect:
                case client.Decide(offer=offer):
                    self._answer(offer)
                    self.rounds.decided(takes_part=True)
                case client.AnswerAgain() if self.rounds.offer is not None:
                    self._answer(self.rounds.offer)
                case client.Train(task=task):
                    self._train(task)
                    self._do(self.rounds.trained())
                case client.Upload():
                    self._upload()
                case client.ClearOutbox():
                    self.outbox = None
                case _:
                    pass

    def _answer(self, offer: Offer) -> None:
        self._send(
            Ready(
                job=offer.job, round_id=offer.round_id, attempt=offer.attempt,
                level=offer.levels[-1], num_examples=5,
            )
        )  # fmt: skip

    def _train(self, task: Task) -> None:
        body = body_of(self.name, task.round_id)
        update = Update(
            job=task.job, round_id=task.round_id, stage=task.stage, level=task.level,
            num_examples=5, mask_digest=DIGEST,
            parts=(Part(name="values", codec="f32", size=body.size),),
        )  # fmt: skip
        self.outbox = update, body

    def _upload(self) -> None:
        if self.outbox is not None:
            self._sent_s = self.clock()
            self.channel.send(None, *self.outbox)

    def _send(self, message: Message) -> None:
        self.channel.send(None, message)


class FuzzGateway(End):
    """The gateway: one round after the other.

    Attributes:
        closed: rounds with updates.
    """

    def __init__(self, broker: MemoryBroker, clock: Callable[[], float], folder: Path) -> None:
        super().__init__(broker, clock, folder, "")
        self.rounds = ServerRounds(POLICY, started=True)
        self.closed = 0
        self._round_id = self._attempt = 0
        self._again_s = 0.0
        self._open()

    def remind(self) -> None:
        """Time passes; the offer is said again."""
        self._do(self.rounds.tick(self.clock()))
        if self.clock() >= self._again_s:
            self._offer()

    def take(self, event: ChannelEvent) -> None:
        """As the aggregator does."""
        now_s = self.clock()
        match event:
            case Announced(device=device, message=Update() as update) if update.job == JOB:
                digest = event.absent.digest
                verdict = self.rounds.verdict(device, update.round_id, digest)
                if verdict is None:
                    self.channel.accept(event)
                else:
                    self._answer(device, update, digest, verdict)
            case Delivered(device=device, message=Status(online=online)):
                change = self.rounds.device_online if online else self.rounds.device_offline
                self._do(change(device, now_s))
            case Delivered(device=device, message=Ready() as ready) if ready.job == JOB:
                self._do(self.rounds.answered(device, ready, now_s))
            case Delivered(device=device, message=Failure() as failure) if failure.job == JOB:
                self._do(self.rounds.failed(device, failure.round_id, now_s))
            case Delivered(device=device, message=Update() as update) if update.job == JOB:
                self._on_update(device, update, event.body.digest)
            case _:
                pass

    def _on_update(self, device: str, update: Update, digest: str) -> None:
        verdict = self.rounds.verdict(device, update.round_id, digest)
        self._answer(device, update, digest, verdict or Verdict.ACCEPTED)
        if verdict is None:
            self._do(self.rounds.stored({device: digest}, self.clock()))

    def _answer(self, device: str, update: Update, digest: str, verdict: Verdict) -> None:
        receipt = Receipt(job=JOB, round_id=update.round_id, update_digest=digest, verdict=verdict)
        self.channel.send(device, receipt)

    def _do(self, effects: list[server.Effect]) -> None:
        for effect in effects:
            match effect:
                case server.Assign(device=device, level=level):
                    self._assign(device, level)
                case server.Close():
                    self.closed += 1
                    self._round_id, self._attempt = self._round_id + 1, 0
                    self._open()
                case server.Repeat():
                    self._attempt += 1
                    self._open()
                case _:
                    pass

    def _open(self) -> None:
        self._offer()
        self._do(self.rounds.open(self._round_id, Stage.TRAIN, LEVELS, self.clock()))

    def _offer(self) -> None:
        self._again_s = self.clock() + 5.0
        offer = Offer(
            job=JOB, round_id=self._round_id, attempt=self._attempt, stage=Stage.TRAIN,
            plan_digest=DIGEST, levels=LEVELS, mask_digests=("", ""), kept=((2,), (1,)),
            batch_size=1, epochs=1, seconds_left=30.0,
        )  # fmt: skip
        self.channel.send(None, offer)

    def _assign(self, device: str, level: float) -> None:
        body = body_of("task", self._round_id)
        task = Task(
            job=JOB, round_id=self._round_id, attempt=self._attempt, stage=Stage.TRAIN,
            plan_digest=DIGEST, level=level,
            parts=(Part(name="values", codec="f32", size=body.size),),
        )  # fmt: skip
        self.channel.send(device, task, body)
