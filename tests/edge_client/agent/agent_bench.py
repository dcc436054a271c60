"""A real agent on an in-memory broker; its trainer is a shell script, its gateway the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from device_readings import heat, power

from edge_client.agent.agent import Agent
from edge_client.budget.decide import MIB
from edge_client.calibration import Calibration, LayerTiming, LevelTiming
from edge_client.config import ClientConfig, DataConfig
from edge_client.host import RealHost
from edge_client.probe.memory import MemoryReading
from edge_client.store import Store
from fedsparse.body import Bytes
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.densities import uniform_counts
from fedsparse.stored import save_message
from fedsparse.transport.channel import Announced, Channel, Delivered, Rejected, status_will
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.options import ChannelOptions
from fedsparse.wire.codecs import F32
from fedsparse.wire.messages import (
    Message,
    Offer,
    Part,
    Receipt,
    Stage,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.topics import Topics

M = TypeVar("M")
LEVELS = (0.2, 0.1)
LIMIT_S = 30.0
VALUES = b"some bytes"


def small_plan() -> Plan:
    builder = PlanBuilder("small", (6,))
    builder.linear("first", 16)
    builder.relu()
    builder.linear("last", 4)
    return builder.build()


class Bench:
    """The agent's surroundings; `agent` can be ended and started again on the same store."""

    def __init__(self, folder: Path, options: ChannelOptions | None = None) -> None:
        self.folder = folder
        self.options = options
        self.broker = MemoryBroker()
        self.plan = small_plan()
        self.store = Store(folder / "store")
        self.script = folder / "trainer.sh"
        self.available_bytes = 4_000 * MIB
        self.heat = heat()
        self.power = power()
        self.policy: Path | None = None
        self.trained = 'cp "$here"/update.* "$here/store/outbox/"'
        self.calibrated = 'cp "$here/calibration.json" "$output"'
        np.savez(folder / "data.npz", x=np.zeros((20, 6), np.float32), y=np.zeros(20, np.int64))
        self.data = DataConfig(path=folder / "data.npz", holdout=0.25)
        topics = Topics("site")
        self.gateway = Channel(
            MemoryTransport(self.broker, client_id="gateway"),
            topics,
            spool=folder / "gateway",
            options=options,
        )
        self.gateway.start()
        self.inbox: list[tuple[Message, bytes]] = []
        self.statuses: list[Status] = []
        self.write_update(self.update())
        self.write_calibration(LEVELS)
        self.agent = self.start()

    # The device

    def start(self) -> Agent:
        """An agent as after a boot; the one before, if any, lost its power."""
        topics = Topics("site")
        status = Status(device="dev", online=True)
        self.transport = MemoryTransport(
            self.broker, client_id="dev", will=status_will(topics, status)
        )
        channel = Channel(
            self.transport,
            topics,
            device="dev",
            spool=self.folder / "spool",
            status=status,
            options=self.options,
        )
        config = ClientConfig(
            device="dev", site="site", store=self.store.root, data=self.data, policy=self.policy
        )
        host = RealHost(memory=self.memory, heat=lambda: self.heat, power=lambda: self.power)
        trainer = ("/bin/sh", str(self.script))
        self.agent = Agent(config, self.store, host, channel, trainer)
        channel.start()
        return self.agent

    def memory(self) -> MemoryReading:
        return MemoryReading(
            total_bytes=8_000 * MIB, available_bytes=self.available_bytes, source="test"
        )

    def write_script(self) -> None:
        """What the trainer does, by the kind of its request."""
        find_output = """output=$(sed 's/.*"output": "\\([^"]*\\)".*/\\1/' "$1")"""
        self.script.write_text(
            f'here="{self.folder}"\n{find_output}\n'
            f'cp "$1" "$here/last-request.json"\necho run >> "$here/runs"\n'
            f'if grep -q CalibrateRequest "$1"; then {self.calibrated}\n'
            f"else {self.trained}\nfi\n"
        )

    @property
    def runs(self) -> int:
        """How often a trainer was started."""
        path = self.folder / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def write_update(self, update: Update) -> None:
        save_message(self.folder / "update.head", update, Bytes(VALUES))

    @staticmethod
    def timing(batch_size: int) -> LevelTiming:
        """The first layer is faster with dense kernels."""
        return LevelTiming(
            step_s={batch_size: 1e-3, batch_size // 2: 2e-3},
            multiply_adds=1_000_000,
            engine="sparse",
            threads=1,
            shared_work=8_000_000,
            layers={
                "first.weight": LayerTiming(kept=5, sparse_s=2e-4, dense_s=1e-6),
                "last.weight": LayerTiming(kept=5, sparse_s=1e-6, dense_s=2e-4),
            },
        )

    def write_calibration(
        self, levels: tuple[float, ...], batch_size: int = 8, timing: LevelTiming | None = None
    ) -> None:
        calibration = Calibration(
            plan_digest=self.plan.digest,
            batch_size=batch_size,
            levels=dict.fromkeys(levels, timing or self.timing(batch_size)),
            baseline_bytes=20 * MIB,
        )
        (self.folder / "calibration.json").write_text(calibration.to_json())

    # The gateway

    def offer(self, round_id: int = 1, **changes: Any) -> Offer:  # noqa: ANN401
        offer = Offer(
            job="job",
            round_id=round_id,
            attempt=0,
            stage=Stage.TRAIN,
            plan_digest=self.plan.digest,
            levels=LEVELS,
            mask_digests=("", ""),
            kept=tuple(tuple(uniform_counts(self.plan, level)) for level in LEVELS),
            batch_size=8,
            epochs=1,
            seconds_left=60.0,
        )
        return replace(offer, **changes)

    def task(self, round_id: int = 1, **changes: Any) -> tuple[Task, bytes]:  # noqa: ANN401
        task = Task(
            job="job",
            round_id=round_id,
            attempt=0,
            stage=Stage.TRAIN,
            plan_digest=self.plan.digest,
            parts=(Part(name="values", codec=F32, size=4),),
            mask_digest="ab" * 32,
            level=0.2,
            seconds_left=60.0,
        )
        return replace(task, **changes), b"abcd"

    def plan_task(self, text: bytes) -> tuple[Task, bytes]:
        part = Part(name="plan", codec="json", size=len(text))
        task, _ = self.task()
        return replace(task, parts=(part,), mask_digest=""), text

    def update(self, round_id: int = 1) -> Update:
        return Update(
            job="job",
            round_id=round_id,
            stage=Stage.TRAIN,
            level=0.2,
            num_examples=15,
            mask_digest="ab" * 32,
            parts=(Part(name="values", codec=F32, size=len(VALUES)),),
        )

    def receipt(self, digest: str, verdict: Verdict = Verdict.ACCEPTED) -> Receipt:
        return Receipt(job="job", round_id=1, update_digest=digest, verdict=verdict)

    def say(self, message: Message, body: bytes = b"") -> None:
        self.gateway.send("dev" if not isinstance(message, Offer) else None, message, Bytes(body))
        self.settle()

    def settle(self) -> None:
        """Let everything arrive that is on its way."""
        for _ in range(12):
            self.agent.step()
            self.listen()

    def listen(self) -> None:
        while (event := self.gateway.poll(0.0)) is not None:
            assert not isinstance(event, Rejected), event.reason
            if isinstance(event, Announced):
                self.gateway.accept(event)
            elif isinstance(event, Delivered) and isinstance(event.message, Status):
                self.statuses.append(event.message)
            elif isinstance(event, Delivered):
                self.inbox.append((event.message, event.body.read()))

    def hear(self, kind: type[M]) -> tuple[M, bytes]:
        """The next message of this kind; the agent works until it has come."""
        found: list[tuple[M, bytes]] = []

        def arrived() -> bool:
            while self.inbox and not found:
                message, body = self.inbox.pop(0)
                if isinstance(message, kind):
                    found.append((message, body))
            return bool(found)

        self.work_until(arrived)
        return found[0]

    def work_until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end_s, "it does not happen"
            self.agent.step()
            self.listen()

    def ready(self) -> None:
        """Bring the agent to the point where it waits for a task."""
        self.store.save_plan(self.plan.digest, self.plan.to_json().encode())
        self.write_script()
        self.say(self.offer())

    def at_work(self) -> None:
        """Bring the agent to the point where its trainer runs."""
        self.ready()
        self.work_until(lambda: bool(self.inbox))
        self.inbox.clear()
        before = self.runs
        self.say(*self.task())
        self.work_until(lambda: self.runs > before)
