"""A whole fleet in one thread: the real aggregator, and devices that "train" with numpy.

The devices run the real client machine over the in-memory broker; only the engine is missing.
Time passes when the aggregator waits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from aggregator.checkpoint import Checkpoint, load_checkpoint
from aggregator.cli import notes_of
from aggregator.events import EventLog
from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig, ValuesConfig
from aggregator.rounds import Aggregator
from aggregator.spool import SEGMENT
from aggregator.store import database
from aggregator.store.database import FLEET, Store, open_store
from edge_client.trainer.work import Progress, Received, Residual, Trained, encode_result
from fedsparse.body import Body, Bytes
from fedsparse.errors import TransportError
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.rounds import client
from fedsparse.rounds.client import ClientRounds
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import U32, decode_mask, encode_counts, mask_digest
from fedsparse.sparsity.values import decode_values, encode_values
from fedsparse.transport.base import Event
from fedsparse.transport.channel import Announced, Channel, Delivered, status_will
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.trust import Trust
from fedsparse.types import BoolArray, Weights
from fedsparse.wire.codecs import F32
from fedsparse.wire.headers import decode_message, encode_message, split_parts
from fedsparse.wire.messages import (
    Evaluation,
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

SITE = "site"
LEVELS = (0.2, 0.1, 0.05)
TICK_S = 0.05


class Killed(Exception):
    """The aggregator's process ends here."""


def kill() -> None:
    """End the aggregator's process."""
    raise Killed


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class GatewayTransport(MemoryTransport):
    """The aggregator's connection; while it waits, the world goes on."""

    def __init__(self, broker: MemoryBroker, world: World) -> None:
        super().__init__(broker, client_id="gateway")
        self._world = world

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        self._world.crash_point()
        if self._world.queue_is_full:
            raise TransportError("too many payloads wait for the broker")
        return super().publish(topic, payload, retain=retain)

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        event = super().receive(timeout_s, hold=hold)
        if event is None:
            self._world.pass_time()
            event = super().receive(timeout_s, hold=hold)
        return event


Change = Callable[[Update, bytes], tuple[Update, bytes]]


class Device:
    """The real client machine around made-up training that depends on name and round alone."""

    def __init__(self, world: World, name: str, level: float | None, num_examples: int) -> None:
        self.world = world
        self.name = name
        self.level = level
        self.num_examples = num_examples
        self.masks: dict[str, BoolArray] = {}
        self.plan: Plan | None = world.plan
        self.outbox: bytes | None = None
        self.receipts: list[Receipt] = []
        self.tasks: list[Task] = []
        self.bodies: list[bytes] = []
        self.trained_again: list[int] = []
        self.silent_in: set[int] = set()
        self.change: dict[int, Change] = {}
        self.stride = 1.0  # of what is kept, in a round
        self.residual: Residual | None = None  # as on its disk
        self.lost: Residual | None = None
        self.offers: dict[int, Offer] = {}
        self.begin()

    def begin(self) -> None:
        """Start the agent (again): what is on its disk survives."""
        topics = Topics(SITE)
        status = Status(device=self.name, online=True)
        self.transport = MemoryTransport(
            self.world.broker, client_id=self.name, will=status_will(topics, status)
        )
        self.channel = Channel(
            self.transport,
            topics,
            device=self.name,
            spool=self.world.folder / f"spool-{self.name}",
            status=status,
            trust=self.world.trust_of(self.name),
            clock=self.world.clock,
        )
        self.rounds = ClientRounds()
        self.answer: Ready | None = None
        self.channel.start()

    def kill(self) -> None:
        """The connection breaks off; `begin` brings the device back."""
        self.world.broker.cut(self.transport)

    def work(self) -> None:
        """Deal with everything that has come."""
        while (event := self.channel.poll(0.0)) is not None:
            if isinstance(event, Announced):
                self.channel.accept(event)
            elif isinstance(event, Delivered):
                self.hear(event.message, event.body)

    def hear(self, message: Message, body: Body) -> None:
        if isinstance(message, Offer):
            self.offers[message.round_id] = message
            self.perform(self.rounds.offered(message))
        elif isinstance(message, Task):
            self.perform(self.rounds.assigned(message, body))
        elif isinstance(message, Receipt):
            self.receipts.append(message)
            if self.outbox is not None:
                digest = hashlib.sha256(decode_message(self.outbox)[1]).hexdigest()
                effects = self.rounds.received(message, digest)
                if effects and message.verdict is Verdict.ACCEPTED and self.lost is not None:
                    self.residual, self.lost = self.lost, None
                self.perform(effects)

    def perform(self, effects: Sequence[client.Effect]) -> None:
        for effect in effects:
            match effect:
                case client.Decide(offer=offer):
                    self.decide(offer)
                case client.AnswerAgain():
                    assert self.answer is not None
                    self.channel.send(None, self.answer)
                case client.KeepPlan(body=body):
                    self.plan = Plan.from_json(body.read())
                    assert self.rounds.offer is not None
                    self.decide(self.rounds.offer)
                case client.Train(task=task, body=body):
                    self.train(task, body.read())
                case client.Upload():
                    assert self.outbox is not None
                    update, body = decode_message(self.outbox)
                    self.channel.send(None, update, Bytes(body))
                case client.ClearOutbox():
                    self.outbox = None
                case client.StopTraining():
                    pass

    def decide(self, offer: Offer) -> None:
        if self.outbox is not None:
            update = decode_message(self.outbox)[0]
            if isinstance(update, Update) and update.round_id == offer.round_id:
                self.perform(self.rounds.in_outbox())
                return
            self.outbox = None
        level = None
        if self.level is not None:
            level = max((one for one in offer.levels if one <= self.level), default=None)
        self.answer = Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=level if self.plan else None,
            has_plan=self.plan is not None,
            num_examples=self.num_examples if level and self.plan else 0,
            held=tuple(self.masks)[-2:],
        )
        self.channel.send(None, self.answer)
        if self.plan is not None:
            self.rounds.decided(takes_part=level is not None)

    def train(self, task: Task, body: bytes) -> None:
        if any(
            (one.round_id, one.verdict) == (task.round_id, Verdict.ACCEPTED)
            for one in self.receipts
        ):
            self.trained_again.append(task.round_id)
        self.tasks.append(task)
        self.bodies.append(body)
        if task.round_id in self.silent_in:
            return
        update, content = self.make_update(task, body)
        if change := self.change.get(task.round_id):
            update, content = change(update, content)
        update = self.world.sign(self.name, update, content)
        self.outbox = encode_message(update, content)
        self.perform(self.rounds.trained())

    def make_update(self, task: Task, body: bytes) -> tuple[Update, bytes]:
        plan = self.world.plan
        parts = split_parts(task.parts, body)
        received = self.receive_mask(task, parts.get("mask"))
        part, values = parts["values"]
        weights = decode_values(part.codec, values, counts_of(plan, received), plan.num_dense)
        rng = np.random.default_rng([task.round_id, *self.name.encode()])
        evaluation = None
        if task.evaluate:
            correct = int(rng.integers(0, 50))
            evaluation = Evaluation(correct=correct, count=50, loss_sum=1.0)
        mask, described, content = received, list[Part](), b""
        if task.asks_saliency:
            saliency = np.abs(rng.standard_normal(weights.prunable.size, np.float32))
            none = np.empty(0, np.float32)
            content = encode_values(
                Weights(prunable=saliency, dense=none), F32, counts_of(plan, received)
            )
            described = [Part(name="values", codec=F32, size=len(content))]
        elif task.stage is Stage.SENSE:
            kept = weights.prunable
            mask, _ = drop_and_grow(plan, received, kept, 0.5, rng)
            content = encode_counts(counts_of(plan, mask))
            described = [Part(name="layers", codec=U32, size=len(content))]
            mask = received
        elif task.stage is Stage.TRAIN:
            step = np.float32(self.stride)
            kept = weights.prunable + step * rng.standard_normal(weights.prunable.size, np.float32)
            noise = rng.standard_normal(weights.dense.size, np.float32)
            dense = weights.dense + np.abs(noise)  # a running variance must stay positive
            if task.evolve:
                mask, kept = drop_and_grow(plan, received, kept, task.prune_rate, rng)
                self.keep(mask)
            trained = Trained(
                mask=mask,
                weights=Weights(prunable=kept, dense=dense),
                evaluation=evaluation,
                progress=Progress(),
            )
            brought = Received(mask=received, values=lambda: parts["values"][1])
            result = encode_result(plan, task, brought, trained, self.residual)
            described, content, self.lost = list(result.parts), result.body, result.residual
        update = Update(
            job=task.job,
            run=task.run,
            round_id=task.round_id,
            stage=task.stage,
            level=task.level,
            num_examples=self.num_examples,
            mask_digest=mask_digest(plan.digest, mask),
            parts=tuple(described),
            evaluation=evaluation,
            loss=0.5,
        )
        return update, content

    def receive_mask(self, task: Task, part: tuple[Part, memoryview] | None) -> BoolArray:
        if part is None:
            return self.masks[task.mask_digest]
        base = self.masks[part[0].base] if part[0].base else None
        mask = decode_mask(part[0].codec, part[1], self.world.plan.num_prunable, base)
        assert self.keep(mask) == task.mask_digest
        return mask

    def keep(self, mask: BoolArray) -> str:
        digest = mask_digest(self.world.plan.digest, mask)
        self.masks.pop(digest, None)
        self.masks[digest] = mask
        return digest


def small_plan() -> Plan:
    builder = PlanBuilder("small", (6,))
    builder.linear("first", 32)
    builder.relu()
    builder.linear("second", 64)
    builder.batch_norm("norm")
    builder.relu()
    builder.linear("last", 4)
    return builder.build()


def small_job(output: Path, **changes: Any) -> JobConfig:  # noqa: ANN401
    job = JobConfig(
        name="job",
        site=SITE,
        plan=output / "plan.json",
        output=output,
        rounds=3,
        method=MethodConfig(name="spdst", levels=LEVELS, sense_epochs=2, r_int=2),
        training=TrainingConfig(learning_rate=0.1, learning_rate_end=0.01),
        values=ValuesConfig(up="f32", down="f32"),
        cohort=CohortConfig(min_devices=2, gather_s=1.0, deadline_s=10.0, offline_grace_s=1.0),
    )
    return replace(job, **changes)


@dataclass
class World:
    """The broker, the clock, the fleet, and an aggregator that can be killed and started again.

    Attributes:
        crash_at: the crash point at which the aggregator is killed, counted from 1; 0 = never.
        crash_points: how many there were so far.
        queue_is_full: whether the aggregator's connection takes nothing more to send.
        trust_of: whom an end believes, by name; the gateway's is empty.
        sign: what a device does with its update.
        loses_power: whether the crash is one of the whole machine.
        written: how long each file is on the disk for good.
    """

    folder: Path
    job: JobConfig
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    plan: Plan = field(default_factory=small_plan)
    clock: Clock = field(default_factory=Clock)
    devices: list[Device] = field(default_factory=list)
    crash_at: int = 0
    crash_points: int = 0
    queue_is_full: bool = False
    loses_power: bool = False
    written: dict[str, int] = field(default_factory=dict)
    at_tick: dict[int, Callable[[], None]] = field(default_factory=dict)
    triggers: list[tuple[Callable[[], bool], Callable[[], None]]] = field(default_factory=list)
    ticks: int = 0
    limit_s: float = 400.0
    trust_of: Callable[[str], Trust | None] = lambda _: None
    sign: Callable[[str, Update, bytes], Update] = lambda _, update, __: update

    def when(self, condition: Callable[[], bool], act: Callable[[], None]) -> None:
        """Do something once, as soon as a condition holds."""
        self.triggers.append((condition, act))

    def add(self, name: str, level: float | None, num_examples: int = 10) -> Device:
        self.devices.append(Device(self, name, level, num_examples))
        return self.devices[-1]

    def add_fleet(self) -> World:
        """Devices of all levels, with unequal numbers of examples."""
        for index, level in enumerate((0.2, 0.2, 0.1, 0.1, 0.05)):
            self.add(f"device-{index}", level, num_examples=10 + 7 * index)
        return self

    def pass_time(self) -> None:
        self.ticks += 1
        if act := self.at_tick.pop(self.ticks, None):
            act()
        for trigger in [trigger for trigger in self.triggers if trigger[0]()]:
            self.triggers.remove(trigger)
            trigger[1]()
        for device in self.devices:
            device.work()
        self.clock.now_s += TICK_S
        assert self.clock.now_s < 1_000.0 + self.limit_s, "the job does not come to an end"

    def wait_for_data(self, descriptor: int) -> None:
        """What was written into a file is on the disk for good only from here on."""
        self.crash_point()
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self.written[path] = os.fstat(descriptor).st_size

    def cut_power(self) -> None:
        """Half of what nobody has waited for is lost."""
        for path in self.job.output.glob(f"spool/*/{SEGMENT}"):
            size, kept = path.stat().st_size, self.written.get(str(path), 0)
            os.truncate(path, kept + (size - kept) // 2)

    def crash_point(self) -> None:
        self.crash_points += 1
        if self.crash_points == self.crash_at:
            raise Killed

    def run(self) -> Aggregator:
        """The job from where it stands to its end, or to the crash point."""
        self.job.output.mkdir(parents=True, exist_ok=True)
        transport = GatewayTransport(self.broker, self)
        channel = Channel(
            transport,
            Topics(SITE),
            spool=self.job.output / "incoming",
            trust=self.trust_of(""),
            clock=self.clock,
        )
        with (
            EventLog(self.job.output / "events.jsonl", self.clock) as events,
            open_store(self.job.store) if self.job.store else small_store(self.job.output) as store,
        ):
            try:
                aggregator = Aggregator(
                    self.job,
                    self.plan,
                    channel,
                    events,
                    notes_of(self.job, self.plan, store),
                    clock=self.clock,
                    calendar=self.clock,
                )
                channel.start()
                aggregator.run()
            except Killed:
                self.broker.cut(transport)
                if self.loses_power:
                    self.cut_power()
                raise
        channel.close()
        for device in self.devices:
            device.work()
        return aggregator

    def run_through_crashes(self) -> Aggregator:
        for _ in range(3):
            with contextlib.suppress(Killed):
                return self.run()
        raise AssertionError("killed more often than planned")

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.job.output / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def checkpoint(self) -> Checkpoint:
        found = load_checkpoint(self.job.output, self.plan, self.job.name, self.job.method.name)
        assert found is not None
        return found


@contextlib.contextmanager
def crash_points_at_the_disk(world: World, monkeypatch: Any) -> Iterator[None]:  # noqa: ANN401
    """Durable writes have two: before the file (or the row) is in its place, and after."""
    write = Store.writing

    @contextlib.contextmanager
    def writing(store: Store) -> Iterator[Connection]:
        with write(store) as db:
            yield db
            world.crash_point()
        world.crash_point()

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: world.crash_point())
        patch.setattr("os.fdatasync", world.wait_for_data)
        patch.setattr(Store, "writing", writing)
        yield


@functools.cache
def empty_store() -> bytes:
    """A store as it is when it was made, which takes a while."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FLEET)
        open_store(path).close()
        return path.read_bytes()


def small_store(output: Path) -> Store:
    """The store of a job's folder."""
    database.PRAGMAS = ("journal_mode=WAL", "synchronous=OFF")  # type: ignore[misc]
    path = output / FLEET
    if not path.exists() and not path.with_name(f"{FLEET}.backup").exists():
        path.write_bytes(empty_store())
    return open_store(path)


def build_world(tmp_path: Path, label: object = "world", **changes: Any) -> World:  # noqa: ANN401
    folder = tmp_path / str(label)
    folder.mkdir()
    empty_store()  # made before crash points are counted
    return World(folder=folder, job=small_job(folder / "out", **changes))


def content_of(world: World) -> bytes:
    """Everything of the final state that a run must reproduce, to the bit."""
    last = world.checkpoint()
    masks = itertools.chain.from_iterable(
        (str(level).encode(), np.packbits(mask).tobytes())
        for level, mask in sorted(last.state.masks.items())
    )
    weights, known = last.state.weights, last.state.statistics
    statistics = [known.values[level].tobytes() for level in sorted(known.values)] if known else []
    about = f"{last.round_id} {last.stage} {sorted(last.trained_levels)} {last.norms}".encode()
    return b"".join(
        (about, weights.prunable.tobytes(), weights.dense.tobytes(), *statistics, *masks)
    )


def method(name: str, *, rotate_levels: bool = False) -> MethodConfig:
    levels = (1.0,) if name == "dense" else LEVELS
    return MethodConfig(
        name=name, levels=levels, sense_epochs=2, r_int=2, rotate_levels=rotate_levels
    )


def task_of(device: Device, round_id: int) -> tuple[Task, bytes]:
    found = [
        (task, body)
        for task, body in zip(device.tasks, device.bodies, strict=True)
        if task.round_id == round_id
    ]
    assert len(found) == 1
    return found[0]
