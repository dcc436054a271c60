"""A broker that lies delays and drops; it changes nothing that is trained or averaged.

It has every right and every topic: it changes, makes up and repeats whatever it likes, and
delivers that before what was really said. Devices, aggregator and signatures are the real ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from job_world import LEVELS, SITE, World, build_world, content_of

from aggregator.identity.signatures import KeySigner, trusted
from aggregator.job import MethodConfig
from fedsparse.errors import RemoteProtocolError
from fedsparse.transport.memory import MemoryBroker
from fedsparse.transport.trust import Trust
from fedsparse.wire.frame import Frame, decode_frame
from fedsparse.wire.headers import encode_message, read_message
from fedsparse.wire.messages import Message, Offer, Receipt, Stage, Task, Update, Verdict
from fedsparse.wire.signing import signed
from fedsparse.wire.topics import Branch, Topics

TOPICS = Topics(SITE)
Said = tuple[str, bytes]
Lie = Callable[["LyingBroker", str, Message, bytes], Iterator[Said]]


def owner(name: str) -> KeySigner:
    seed = hashlib.sha256(name.encode()).digest()
    return KeySigner(Ed25519PrivateKey.from_private_bytes(seed))


GATEWAY, BROKER = owner(""), owner("the broker")


class LyingBroker(MemoryBroker):
    """Before it delivers a message, it delivers what `lie` makes of it."""

    def __init__(self, lie: Lie | None) -> None:
        super().__init__()
        self._lie = lie
        self.lies = 0
        self.heard: list[tuple[str, Message, bytes]] = []

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self._lie is not None and payload and "/chunk/" not in topic:
            frame = decode_frame(payload)
            message, body = read_message(frame), bytes(frame.body)
            for where, lie in self._lie(self, topic, message, body):
                self.lies += 1
                super().route(where, lie, retain=False)
            self.heard.append((topic, message, body))
        super().route(topic, payload, retain=retain)


class Strict(Trust):
    """Notes what it refuses."""

    def check(self, device: str, topic: str, frame: Frame) -> None:
        try:
            Trust.check(self, device, topic, frame)
        except RemoteProtocolError as error:
            REFUSED.append(str(error))
            raise


REFUSED: list[str] = []


def trust_of(name: str) -> Trust:
    if name:
        gateway = trusted([GATEWAY.public_key])
        return Strict(signer=None, keys=lambda _: gateway)
    devices = {f"device-{index}": trusted([owner(f"device-{index}").public_key])
               for index in range(5)}  # fmt: skip
    return Strict(signer=GATEWAY, keys=devices.get)


def sign(name: str, update: Update, content: bytes) -> Update:
    digest = hashlib.sha256(content).hexdigest() if content else ""
    found = signed(update, TOPICS.message(Branch.UP, name), digest, owner(name))
    assert isinstance(found, Update)
    return found


def run(
    tmp_path: Path, label: str, lie: Lie | None, *, stride: float = 1.0
) -> tuple[World, LyingBroker]:
    REFUSED.clear()
    method = MethodConfig(name="spdst", levels=LEVELS, sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(tmp_path, label, method=method, rounds=3)
    world.broker = broker = LyingBroker(lie)
    world.trust_of, world.sign = trust_of, sign
    world.add_fleet()
    for device in world.devices:
        device.stride = stride
    assert world.run().done
    return world, broker


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What comes of it where nobody lies."""
    world, _ = run(tmp_path_factory.mktemp("truth"), "calm", None)
    assert not REFUSED
    return content_of(world)


def turned(body: bytes) -> bytes:
    """Other weights: a bit of the last one is another."""
    return body[:-1] + bytes([body[-1] ^ 0x40])


def other_weights_in_a_task(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Task) and body:
        yield topic, encode_message(message, turned(body))


def another_learning_rate(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Task) and not message.brings_plan:
        yield topic, encode_message(replace(message, learning_rate=10.0), body)


def other_weights_in_an_update(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Update) and body:
        yield topic, encode_message(message, turned(body))


def a_greater_weight_of_an_update(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Update):
        yield topic, encode_message(replace(message, num_examples=1), body)


def the_update_of_one_as_anothers(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Update):
        for index in range(5):
            other = TOPICS.message(Branch.UP, f"device-{index}")
            if other != topic:
                yield other, encode_message(message, body)


def the_task_of_one_as_anothers(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Task) and not message.brings_plan:
        for index in range(5):
            other = TOPICS.message(Branch.DOWN, f"device-{index}")
            if other != topic:
                yield other, encode_message(message, body)


def its_own_signature(_: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
    if isinstance(message, Offer | Task | Receipt | Update):
        digest = hashlib.sha256(turned(body)).hexdigest() if body else ""
        forged = signed(message, topic, digest, BROKER)
        yield topic, encode_message(forged, turned(body) if body else b"")


def its_own_signature_under_the_true_name(
    _: LyingBroker, topic: str, message: Message, body: bytes
) -> Iterator[Said]:
    if isinstance(message, Offer | Task | Receipt | Update):
        digest = hashlib.sha256(body).hexdigest() if body else ""
        forged = signed(message, topic, digest, BROKER)
        yield topic, encode_message(replace(forged, signer=message.signer), body)


def no_signature(_: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
    if isinstance(message, Offer | Task | Receipt | Update):
        yield topic, encode_message(replace(message, signer=b"", signature=b""), body)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_receipt_that_is_made_up_clears_no_outbox(
    tmp_path: Path, truth: bytes, verdict: Verdict
) -> None:
    """It comes before the update does; a device that believed it would not send that again."""

    def lie(_: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
        if isinstance(message, Update):
            receipt = Receipt(
                job=message.job, round_id=message.round_id, verdict=verdict,
                update_digest=hashlib.sha256(body).hexdigest(),
            )  # fmt: skip
            down = topic.replace("/up/", "/down/")
            yield down, encode_message(receipt)
            yield down, encode_message(signed(receipt, down, "", BROKER))

    world, broker = run(tmp_path, "lied-to", lie)
    assert content_of(world) == truth
    assert len(REFUSED) == broker.lies > 0
    for device in world.devices:
        assert {receipt.signer for receipt in device.receipts} <= {device.receipts[0].signer}


@pytest.mark.parametrize("stage", [Stage.DONE, Stage.TRAIN])
def test_an_offer_that_is_made_up_stops_nobody(tmp_path: Path, truth: bytes, stage: Stage) -> None:
    """The end of the job, or a round that is not the present one."""

    def lie(broker: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
        if isinstance(message, Update):
            offers = [heard for _, heard, _ in broker.heard if isinstance(heard, Offer)]
            made_up = replace(offers[-1], stage=stage, round_id=offers[-1].round_id + 1)
            yield TOPICS.round, encode_message(made_up)

    world, broker = run(tmp_path, "lied-to", lie)
    assert content_of(world) == truth
    assert broker.lies > 0
    assert len(REFUSED) == broker.lies * len(world.devices)


@pytest.mark.parametrize(
    "lie",
    [
        other_weights_in_a_task,
        another_learning_rate,
        other_weights_in_an_update,
        a_greater_weight_of_an_update,
        the_update_of_one_as_anothers,
        the_task_of_one_as_anothers,
        its_own_signature,
        its_own_signature_under_the_true_name,
        no_signature,
    ],
)
def test_what_is_changed_or_made_up_is_refused_and_changes_nothing(
    tmp_path: Path, truth: bytes, lie: Lie
) -> None:
    world, broker = run(tmp_path, "lied-to", lie)
    assert content_of(world) == truth
    assert len(REFUSED) >= broker.lies > 0
    refused = sum(device.channel.rejected.total() for device in world.devices)
    if lie in (other_weights_in_an_update, the_update_of_one_as_anothers):
        assert world.events("rejected")
    elif lie in (other_weights_in_a_task, the_task_of_one_as_anothers):
        assert refused == len(REFUSED)


@pytest.mark.parametrize("kind", [Task, Update, Receipt, Offer])
def test_what_is_repeated_from_earlier_rounds_changes_nothing(
    tmp_path: Path, truth: bytes, kind: type[Message]
) -> None:
    """Each time that a message of this kind is said, all that were said on its topic before are."""

    def lie(broker: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
        if isinstance(message, kind):
            for where, old, what in broker.heard:
                if where == topic and isinstance(old, kind):
                    yield where, encode_message(old, what)

    world, broker = run(tmp_path, "lied-to", lie)
    assert content_of(world) == truth
    assert broker.lies > 0
    updates = [(one["device"], one["round"]) for one in world.events("update")]
    assert len(updates) == len(set(updates))


@pytest.mark.parametrize("kind", [Task, Update, Receipt])
def test_what_is_kept_back_costs_a_device_a_round_at_most(
    tmp_path: Path, kind: type[Message]
) -> None:

    class Swallowing(LyingBroker):
        swallowed = 0

        def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
            message = read_message(decode_frame(payload)) if "/message" in topic else None
            if isinstance(message, kind) and not self.swallowed and message.round_id == 2:
                self.swallowed = 1
                return
            super().route(topic, payload, retain=retain)

    REFUSED.clear()
    method = MethodConfig(name="spdst", levels=LEVELS, sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(tmp_path, "swallowed", method=method, rounds=3)
    world.broker = broker = Swallowing(None)
    world.trust_of, world.sign = trust_of, sign
    world.add_fleet()
    assert world.run().done
    assert broker.swallowed == 1
    taken = {(one["device"], one["round"]) for one in world.events("update")}
    assert len(taken) >= 4 * len({round_id for _, round_id in taken})
    assert not REFUSED


@pytest.mark.parametrize("kind", [Task, Update, Receipt])
def test_what_was_said_in_an_earlier_run_of_the_job_does_not_count_again(
    tmp_path: Path, truth: bytes, kind: type[Message]
) -> None:
    """The operator begins afresh, with other samples; devices, names and rounds are the same."""
    heard: list[tuple[str, Message, bytes]] = []

    def remember(broker: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
        heard.append((topic, message, body))
        return iter(())

    run(tmp_path, "earlier", remember, stride=0.5)

    def lie(_: LyingBroker, topic: str, message: Message, body: bytes) -> Iterator[Said]:
        if isinstance(message, Task) and not message.brings_plan:
            for where, old, what in heard:
                mine = where.split("/")[4] == topic.split("/")[4]
                if mine and isinstance(old, kind) and old.round_id == message.round_id:
                    yield where, encode_message(old, what)

    world, broker = run(tmp_path, "later", lie)
    assert broker.lies > 0
    assert content_of(world) == truth
    if kind is Update:
        assert "another run" in " ".join(one["reason"] for one in world.events("rejected"))
