"""Messages over every broker: large ones, restarts of the broker, death of a device."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE_S, Harness, ProcessHarness, wait_for

from fedsparse.body import Bytes
from fedsparse.transport.base import Connected, Disconnected
from fedsparse.transport.channel import Announced, Channel, Delivered, status_will
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.wire.messages import Failure, Message, Part, Stage, Status, Task, Update
from fedsparse.wire.topics import Topics

TOPICS = Topics("home")
STATUS = Status(device="pi", online=True, board="pi")
DIGEST = hashlib.sha256(b"").hexdigest()
FAILURE = Failure(job="watch", round_id=1, reason="in between")
BIG = Bytes(random.Random(7).randbytes(2_000_000))
OPTIONS = ChannelOptions(limits=Limits(stall_s=0.5))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pair(harness: Harness, tmp_path: Path) -> Iterator[tuple[Channel, Channel]]:
    """A gateway and a device that know of each other."""
    gateway = Channel(
        harness.client("the-gateway"), TOPICS, spool=tmp_path / "gateway", options=OPTIONS
    )
    device = Channel(
        harness.client("pi", will=status_will(TOPICS, STATUS)), TOPICS, device="pi",
        spool=tmp_path / "pi", status=STATUS, options=OPTIONS,
    )  # fmt: skip
    gateway.start()
    device.start()
    await_messages(gateway, device, STATUS)
    yield gateway, device
    device.close()
    gateway.close()


def await_messages(reader: Channel, other: Channel, *wanted: Message) -> list[Message]:
    """All messages that `reader` gets until it has these; `other` is kept going."""
    found: list[Message] = []

    def step() -> list[Message] | None:
        other.poll(0.0)
        event = reader.poll(0.01)
        if isinstance(event, Announced):
            reader.accept(event)
        elif isinstance(event, Delivered):
            found.append(event.message)
            if event.body.size:
                assert event.body.digest == BIG.digest == Bytes(event.body.read()).digest
        return found if all(message in found for message in wanted) else None

    return wait_for(step, f"{[type(message).__name__ for message in wanted]}")


def update() -> Update:
    parts = (Part(name="values", codec="f32", size=BIG.size),)
    return Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9,
        mask_digest=DIGEST, parts=parts,
    )  # fmt: skip


def task() -> Task:
    parts = (Part(name="values", codec="f32", size=BIG.size),)
    return Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST, parts=parts
    )


def test_a_control_message_passes_an_update_of_two_megabytes(pair: tuple[Channel, Channel]) -> None:
    gateway, device = pair
    device.send(None, update(), BIG)
    device.send(None, FAILURE)
    assert await_messages(gateway, device, FAILURE, update()) == [FAILURE, update()]
    sent, received = device.traffic["pi"].sent_bytes, gateway.traffic["pi"].received_bytes
    assert BIG.size < sent == received < 1.015 * BIG.size
    assert gateway.traffic["pi"].sent_bytes < 0.01 * BIG.size  # what it asked for them


def test_a_task_of_two_megabytes_arrives(pair: tuple[Channel, Channel]) -> None:
    gateway, device = pair
    gateway.send("pi", task(), BIG)
    assert await_messages(device, gateway, task()) == [task()]


def test_a_transfer_survives_a_restart_of_the_broker(
    harness: Harness, pair: tuple[Channel, Channel]
) -> None:
    gateway, device = pair
    gateway.send("pi", task(), BIG)
    send_a_part(gateway, device)
    harness.stop()
    harness.start()
    await_messages(device, gateway, task())
    assert gateway.traffic["pi"].sent_bytes < 1.1 * BIG.size


def test_a_transfer_goes_on_where_its_receiver_was_started_again(
    harness: Harness, pair: tuple[Channel, Channel], tmp_path: Path
) -> None:
    gateway, device = pair
    gateway.send("pi", task(), BIG)
    send_a_part(gateway, device)
    device._transport.close()
    again = Channel(
        harness.client("pi"), TOPICS, device="pi", spool=tmp_path / "pi", status=STATUS,
        options=OPTIONS,
    )  # fmt: skip
    again.start()
    await_messages(gateway, again, STATUS)  # it has subscribed
    gateway.send("pi", task(), BIG)
    await_messages(again, gateway, task())
    again.close()
    assert gateway.traffic["pi"].sent_bytes < 1.1 * BIG.size


def send_a_part(gateway: Channel, device: Channel) -> None:
    """A task goes on its way; return when a quarter of it has been sent."""

    def step() -> bool | None:
        gateway.poll(0.0)
        event = device.poll(0.01)
        if isinstance(event, Announced):
            device.accept(event)
        assert not isinstance(event, Delivered)
        return True if gateway.traffic["pi"].sent_bytes > BIG.size // 4 else None

    wait_for(step, "a part of a task")


def test_a_device_that_is_cut_off_is_reported_and_announces_itself_again(
    harness: Harness, pair: tuple[Channel, Channel]
) -> None:
    gateway, device = pair
    drain(device)
    harness.cut(device._transport)
    offline = Status(device="pi", online=False, board="pi")
    wait_for(lambda: one(device, Disconnected), "the disconnect")
    wait_for(lambda: one(device, Connected), "the reconnect")
    assert await_messages(gateway, device, STATUS)[:2] == [offline, STATUS]
    device.send(None, FAILURE)
    await_messages(gateway, device, FAILURE)


def drain(channel: Channel) -> None:
    while channel.poll(0.0) is not None:
        pass


def one(channel: Channel, kind: type) -> object | None:
    event = channel.poll(0.1)
    return event if isinstance(event, kind) else None


def test_a_killed_device_process_is_reported_offline(
    process_harness: ProcessHarness, tmp_path: Path
) -> None:
    gateway = Channel(process_harness.client("gw"), TOPICS, spool=tmp_path / "gateway")
    gateway.start()
    command = [sys.executable, str(Path(__file__).with_name("mortal_device.py"))]
    command += [str(process_harness.address.port), str(tmp_path / "pi")]
    with subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) as process:
        try:
            await_messages(gateway, gateway, Status(device="pi", online=True))
        finally:
            process.kill()
        await_messages(gateway, gateway, Status(device="pi", online=False))
        process.wait(PATIENCE_S)
    gateway.close()
