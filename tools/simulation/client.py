"""A virtual client: the device's state machine and channel, in memory, for one round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_client.data.header import count_samples
from edge_client.store import MASKS_KEPT
from edge_client.trainer.masks import receive_mask, save_mask
from fedsparse.body import Body, Bytes
from fedsparse.plan import Plan
from fedsparse.rounds import client
from fedsparse.rounds.client import ClientRounds
from fedsparse.sparsity.packing import pack, unpack
from fedsparse.transport.channel import Announced, Channel, Delivered, status_will
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.types import BoolArray
from fedsparse.wire.headers import decode_message, encode_message, split_parts
from fedsparse.wire.messages import (
    MAX_TEXT,
    Failure,
    Message,
    Offer,
    Ready,
    Receipt,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.topics import Topics
from tools.simulation.worker import TrainAnswer, TrainOrder


@dataclass(slots=True)
class Belongings:
    """What a client keeps between the rounds in which it works.

    Attributes:
        has_plan: whether it has received the plan.
        held: digests of its masks, latest first.
    """

    has_plan: bool = False
    held: list[str] = field(default_factory=list)

    def hold(self, digest: str) -> None:
        """Put a mask first; the oldest ones are forgotten, as in a device's store."""
        self.held = [digest, *(one for one in self.held if one != digest)][:MASKS_KEPT]

    def to_document(self) -> dict[str, object]:
        """For JSON."""
        return {"has_plan": self.has_plan, "held": self.held}

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Belongings:
        """As `to_document` wrote it."""
        held = document["held"]
        assert isinstance(held, list)  # noqa: S101 (of a file of ours)
        return cls(has_plan=bool(document["has_plan"]), held=list(held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all clients of a simulation share.

    Attributes:
        plan: the model.
        broker: they meet the aggregator here.
        topics: of the fleet.
        masks: folder of all masks, named by digest.
        residuals: folder of what the encoding of each client's updates lost.
        incoming: folder for open transfers.
        clock: seconds.
    """

    plan: Plan
    broker: MemoryBroker
    topics: Topics
    masks: Path
    residuals: Path
    incoming: Path
    clock: Callable[[], float]


class VirtualClient:
    """One client while it is online.

    Args:
        site: where it is.
        name: as messages call it.
        level: the largest that it accepts.
        samples: its `.npz`.
        belongings: what it has kept; changed.
    """

    def __init__(
        self, site: Site, name: str, level: float, samples: Path, belongings: Belongings
    ) -> None:
        self.name = name
        self.level = level
        self.failure = ""
        self._site = site
        self._samples = samples
        self._belongings = belongings
        self._rounds = ClientRounds()
        self._answer: Ready | None = None
        self._task: Task | None = None
        self._order: TrainOrder | None = None
        self._update: tuple[Update, Body] | None = None
        self._lost = b""
        status = Status(device=name, online=True, board="virtual")
        transport = MemoryTransport(
            site.broker, client_id=name, will=status_will(site.topics, status), clean_session=True
        )
        self._channel = Channel(
            transport,
            site.topics,
            device=name,
            spool=site.incoming,
            status=status,
            clock=site.clock,
        )
        self._channel.start()

    @property
    def task_level(self) -> float:
        """The level of the task; 0 while there is none."""
        return self._task.level if self._task is not None else 0.0

    @property
    def order(self) -> TrainOrder | None:
        """The task that waits to be trained."""
        return self._order

    def listen(self) -> bool:
        """Deal with everything that has come; whether there was anything."""
        heard = False
        while (event := self._channel.poll(0.0)) is not None:
            heard = True
            if isinstance(event, Announced):
                self._channel.accept(event)
            elif isinstance(event, Delivered):
                self._hear(event.message, Bytes(event.body.read()))
        return heard

    def trained(self, answer: TrainAnswer) -> BoolArray | None:
        """Take in what a worker made of the order; returns the mask if it has evolved."""
        task, self._order = self._task, None
        if task is None:
            raise ValueError(f"{self.name} has no task")
        if answer.failure:
            self.failure = answer.failure
            failure = Failure(
                job=task.job, round_id=task.round_id, reason=answer.failure[:MAX_TEXT]
            )
            self._channel.send(None, failure)
            self._perform(self._rounds.failed())
            return None
        update, body = decode_message(answer.frame)
        if not isinstance(update, Update):
            raise TypeError(f"a worker answered with {type(update).__name__}")
        self._update, self._lost = (update, Bytes(bytes(body))), answer.lost
        evolved = None
        if update.mask_digest != task.mask_digest:
            evolved = unpack(answer.mask, self._site.plan.num_prunable)
            save_mask(self._site.masks, update.mask_digest, evolved)
            self._belongings.hold(update.mask_digest)
        self._perform(self._rounds.trained())
        return evolved

    def hear_receipt(self) -> None:
        """Learn what became of the update, and nothing else: an offer that came is for others."""
        while (event := self._channel.poll(0.0)) is not None:
            if isinstance(event, Delivered) and isinstance(event.message, Receipt):
                self._hear(event.message, event.body)

    def leave(self) -> None:
        """Go offline in good order."""
        self._channel.close()

    def _hear(self, message: Message, body: Body) -> None:
        match message:
            case Offer():
                self._perform(self._rounds.offered(message))
            case Task():
                self._perform(self._rounds.assigned(message, body))
            case Receipt() if self._update is not None:
                effects = self._rounds.received(message, self._update[1].digest)
                if effects and message.verdict is Verdict.ACCEPTED and self._lost:
                    self._keep_lost()
                if effects and message.verdict is not Verdict.ACCEPTED:
                    self.failure = message.reason or message.verdict.value
                self._perform(effects)
            case _:
                pass

    def _perform(self, effects: Sequence[client.Effect]) -> None:
        for effect in effects:
            match effect:
                case client.Decide(offer=offer):
                    self._decide(offer)
                case client.AnswerAgain() if self._answer is not None:
                    self._channel.send(None, self._answer)
                case client.KeepPlan(task=task, body=body):
                    self._keep_plan(task, body)
                case client.Train(task=task, body=body):
                    self._accept(task, body)
                case client.Upload() if self._update is not None:
                    self._channel.send(None, *self._update)
                case _:
                    pass

    def _decide(self, offer: Offer) -> None:
        """Accept at the client's own level: it stands for a device that can hold it."""
        has_plan = self._belongings.has_plan
        self._answer = Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=max(one for one in offer.levels if one <= self.level) if has_plan else None,
            has_plan=has_plan,
            held=self._held(offer) if has_plan else (),
            num_examples=count_samples(self._samples)[0] if has_plan else 0,
            board="virtual",
        )
        self._channel.send(None, self._answer)
        if has_plan:
            self._rounds.decided(takes_part=True)

    def _held(self, offer: Offer) -> tuple[str, ...]:
        """The masks that spare bytes, as a device names them."""
        held = self._belongings.held
        return tuple(one for one in held if one in offer.mask_digests or one == held[0])

    def _keep_plan(self, task: Task, body: Body) -> None:
        text = bytes(split_parts(task.parts, body.read())["plan"][1])
        if Plan.from_json(text).digest != self._site.plan.digest:
            raise ValueError("the plan that came is another one")
        self._belongings.has_plan = True
        if self._rounds.offer is not None:
            self._decide(self._rounds.offer)

    def _accept(self, task: Task, body: Body) -> None:
        parts = split_parts(task.parts, body.read())
        mask = receive_mask(self._site.plan, task.mask_digest, parts.get("mask"), self._site.masks)
        self._belongings.hold(task.mask_digest)
        self._task = task
        self._order = TrainOrder(
            frame=encode_message(task, body.read()),
            mask=pack(mask),
            samples=self._samples,
            residual=self._residual.read_bytes() if self._residual.exists() else b"",
            masks=self._site.masks,
        )

    @property
    def _residual(self) -> Path:
        return self._site.residuals / self.name

    def _keep_lost(self) -> None:
        """As a whole: a snapshot may hold the file that was there before."""
        fresh = self._residual.with_suffix(".new")
        fresh.write_bytes(self._lost)
        fresh.replace(self._residual)
