"""In a fleet with an authority: what is not signed as it must be is counted, and dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from channel_world import RECEIPT, SMALL, TOPICS, World, drain, some_body, task, update
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.signatures import KeySigner
from fedsparse.body import NO_BODY, Body
from fedsparse.transport.base import Received
from fedsparse.transport.channel import Announced, Channel, ChannelEvent, Delivered, Rejected
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.options import ChannelOptions
from fedsparse.transport.trust import Trust
from fedsparse.wire.frame import Absent
from fedsparse.wire.headers import encode_message, encode_message_head
from fedsparse.wire.messages import (
    Failure,
    Message,
    Need,
    Offer,
    Ready,
    Receipt,
    Stage,
    Task,
    Update,
)
from fedsparse.wire.signing import Signed, Trusted, signed
from fedsparse.wire.topics import Branch

BODY = some_body(200)
LARGE = some_body(1_000)
UP = TOPICS.message(Branch.UP, "pi")
DOWN = TOPICS.message(Branch.DOWN, "pi")
OFFER = Offer(
    job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=RECEIPT.update_digest,
    levels=(0.1,), mask_digests=("",), kept=((1,),), batch_size=8, epochs=1, seconds_left=9.0,
)  # fmt: skip


def owner(name: str) -> KeySigner:
    """Has the key of this name."""
    seed = hashlib.sha256(name.encode()).digest()
    return KeySigner(Ed25519PrivateKey.from_private_bytes(seed))


def trusted(*names: str) -> Trusted:
    return Trusted([owner(name).public_key for name in names])


GATEWAY, PI, NANO = owner("gateway"), owner("pi"), owner("nano")


class Fleet(World):
    """A gateway that signs, and believes those devices that `let_in` names."""

    def __init__(self, folder: Path) -> None:
        self.let_in = {"pi": trusted("pi"), "nano": trusted("nano")}
        self.believed = trusted("gateway")
        trusts = {
            "": Trust(signer=GATEWAY, keys=self.let_in.get),
            **dict.fromkeys(("pi", "nano"), Trust(signer=None, keys=lambda _: self.believed)),
        }
        super().__init__(folder, MemoryBroker(), trusts=trusts)
        self.pi, self.nano = self.device("pi"), self.device("nano")
        self.moves()

    def moves(self) -> list[ChannelEvent]:
        return drain(self.gateway, self.pi, self.nano)

    def deliver(self, channel: Channel, topic: str, payload: bytes) -> list[ChannelEvent]:
        """A broker that lies hands a payload to one client, whatever it has subscribed to."""
        transport = channel._transport
        assert isinstance(transport, MemoryTransport)
        transport.deliver(Received(topic=topic, payload=payload, retained=False))
        return drain(channel, accept=False)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def payload(message: Message, body: Body = NO_BODY) -> bytes:
    return encode_message(message, body.read())


def by_pi(message: Signed, body: Body = BODY, topic: str = UP, signer: KeySigner = PI) -> Signed:
    return signed(message, topic, body.digest if body.size else "", signer)


def came(events: list[ChannelEvent], kind: type[Message]) -> list[Message]:
    return [one.message for one in events if isinstance(one, Delivered | Announced)
            and isinstance(one.message, kind)]  # fmt: skip


def refused(events: list[ChannelEvent], why: str, channel: Channel, device: str = "pi") -> bool:
    """Whether nothing came but a refusal, and that was counted."""
    [only] = events
    return isinstance(only, Rejected) and why in only.reason and channel.rejected[device] == 1


def test_what_the_gateway_says_is_signed_and_comes(fleet: Fleet) -> None:
    fleet.gateway.send("pi", task(BODY), BODY)
    fleet.gateway.send("pi", RECEIPT)
    fleet.gateway.send(None, OFFER)
    events = fleet.moves()
    assert not [one for one in events if isinstance(one, Rejected)]
    for kind in (Task, Receipt, Offer):
        found = came(events, kind)
        assert found
        assert all(one.signature for one in found)  # type: ignore[union-attr]


def test_what_a_device_signed_comes_and_what_is_not_to_be_signed_comes_too(fleet: Fleet) -> None:
    ready = Ready(job="watch", round_id=1, attempt=0, level=None)
    fleet.pi.send(None, by_pi(update(BODY)), BODY)
    for message in (ready, Failure(job="watch", round_id=1, reason="x"), Need(what="mask")):
        fleet.pi.send(None, message)
    events = fleet.moves()
    assert [type(one.message) for one in events if isinstance(one, Delivered)] == [
        Update, Ready, Failure, Need,
    ]  # fmt: skip


@pytest.mark.parametrize("way", ["whole", "in chunks"])
def test_a_large_message_is_refused_by_its_head(fleet: Fleet, way: str) -> None:
    body = LARGE if way == "in chunks" else BODY
    fleet.pi.send(None, update(body), body)
    events = fleet.moves()
    assert refused(events, "not signed", fleet.gateway)
    assert not fleet.spool("gateway")


@pytest.mark.parametrize("message", [task(BODY), RECEIPT, OFFER])
def test_a_device_takes_nothing_unsigned_from_its_gateway(fleet: Fleet, message: Message) -> None:
    topic = TOPICS.round if isinstance(message, Offer) else DOWN
    body = BODY if isinstance(message, Task) else NO_BODY
    events = fleet.deliver(fleet.pi, topic, payload(message, body))
    device = "" if isinstance(message, Offer) else "pi"
    assert refused(events, "not signed", fleet.pi, device)


ON_THE_WAY: dict[str, Callable[[Update], Update]] = {
    "more examples": lambda one: replace(one, num_examples=10**6),
    "another round": lambda one: replace(one, round_id=2),
    "another job": lambda one: replace(one, job="other"),
    "another mask": lambda one: replace(one, mask_digest="f" * 64),
    "another level": lambda one: replace(one, level=0.2),
    "another loss": lambda one: replace(one, loss=0.5),
    "another codec": lambda one: replace(one, parts=(replace(one.parts[0], codec="i8"),)),
    "no signature": lambda one: replace(one, signature=b""),
    "no name of the key": lambda one: replace(one, signer=b""),
    "a turned bit of the signature": lambda one: replace(
        one, signature=bytes([one.signature[0] ^ 1]) + one.signature[1:]
    ),
}


@pytest.mark.parametrize("change", ON_THE_WAY)
def test_a_header_that_was_changed_on_the_way_is_refused(fleet: Fleet, change: str) -> None:
    message = by_pi(update(BODY))
    assert isinstance(message, Update)
    changed = ON_THE_WAY[change](message)
    assert changed != message
    events = fleet.deliver(fleet.gateway, UP, payload(changed, BODY))
    assert refused(events, "sign", fleet.gateway)


def test_a_body_that_was_changed_on_the_way_is_refused(fleet: Fleet) -> None:
    message, other = by_pi(update(BODY)), some_body(200, seed=2)
    events = fleet.deliver(fleet.gateway, UP, payload(message, other))  # with a digest that fits
    assert refused(events, "wrong signature", fleet.gateway)


def test_another_body_behind_a_signed_head_is_refused(fleet: Fleet) -> None:
    absent = Absent(digest=some_body(1_000, seed=2).digest, size=1_000, chunk_bytes=100)
    head = encode_message_head(by_pi(update(LARGE), LARGE), absent)
    assert refused(fleet.deliver(fleet.gateway, UP, head), "wrong signature", fleet.gateway)


def test_what_was_signed_for_another_topic_is_refused(fleet: Fleet) -> None:
    """Of another device, of another site, the other way round, or of another kind of topic."""
    elsewhere = (
        TOPICS.message(Branch.UP, "nano"),
        UP.replace("home", "plant"),
        DOWN,
        TOPICS.status("pi"),
    )
    for count, topic in enumerate(elsewhere, 1):
        message = by_pi(update(BODY), topic=topic)
        [event] = fleet.deliver(fleet.gateway, UP, payload(message, BODY))
        assert isinstance(event, Rejected)
        assert "wrong signature" in event.reason
        assert fleet.gateway.rejected["pi"] == count


def test_one_devices_update_is_not_taken_for_anothers(fleet: Fleet) -> None:
    events = fleet.deliver(
        fleet.gateway, TOPICS.message(Branch.UP, "nano"), payload(by_pi(update(BODY)), BODY)
    )
    assert refused(events, "unknown key", fleet.gateway, "nano")


def test_a_device_cannot_sign_for_another(fleet: Fleet) -> None:
    message = by_pi(update(BODY), signer=NANO)
    events = fleet.deliver(fleet.gateway, UP, payload(message, BODY))
    assert refused(events, "unknown key", fleet.gateway)


def test_a_name_of_a_key_that_is_not_the_signers_does_not_help(fleet: Fleet) -> None:
    message = replace(by_pi(update(BODY), signer=NANO), signer=by_pi(update(BODY)).signer)
    events = fleet.deliver(fleet.gateway, UP, payload(message, BODY))
    assert refused(events, "wrong signature", fleet.gateway)


def test_a_device_cannot_speak_for_the_gateway_nor_the_gateway_for_a_device(fleet: Fleet) -> None:
    forged = signed(task(BODY), DOWN, BODY.digest, PI)
    assert refused(fleet.deliver(fleet.pi, DOWN, payload(forged, BODY)), "unknown key", fleet.pi)
    forged = by_pi(update(BODY), signer=GATEWAY)
    events = fleet.deliver(fleet.gateway, UP, payload(forged, BODY))
    assert refused(events, "unknown key", fleet.gateway)


def test_the_task_of_one_device_is_not_given_to_another(fleet: Fleet) -> None:
    """Neither on the topic of the other nor, by a broker that ignores subscriptions, on its own."""
    fleet.gateway.send("nano", task(BODY), BODY)
    [sent] = came(fleet.moves(), Task)
    assert refused(fleet.deliver(fleet.pi, DOWN, payload(sent, BODY)), "wrong sig", fleet.pi)
    topic = TOPICS.message(Branch.DOWN, "nano")
    events = fleet.deliver(fleet.pi, topic, payload(sent, BODY))
    assert refused(events, "not for this end", fleet.pi, "nano")


def test_the_receipt_of_one_device_is_not_given_to_another(fleet: Fleet) -> None:
    fleet.gateway.send("nano", RECEIPT)
    [sent] = came(fleet.moves(), Receipt)
    topic = TOPICS.message(Branch.DOWN, "nano")
    events = fleet.deliver(fleet.pi, topic, payload(sent))
    assert refused(events, "not for this end", fleet.pi, "nano")


def test_what_goes_down_is_not_taken_by_the_gateway_and_what_goes_up_not_by_a_device(
    fleet: Fleet,
) -> None:
    ready = payload(Ready(job="watch", round_id=1, attempt=0, level=None))
    assert refused(fleet.deliver(fleet.pi, UP, ready), "not for this end", fleet.pi)
    events = fleet.deliver(fleet.gateway, DOWN, payload(Need(what="mask")))
    assert refused(events, "not for this end", fleet.gateway)


def test_of_a_revoked_device_nothing_is_taken_any_more(fleet: Fleet) -> None:
    fleet.pi.send(None, by_pi(update(BODY)), BODY)
    assert came(fleet.moves(), Update)
    del fleet.let_in["pi"]
    fleet.pi.send(None, by_pi(update(BODY)), BODY)
    assert refused(fleet.moves(), "nobody of this name", fleet.gateway)
    fleet.nano.send(None, by_pi(update(BODY), topic=UP.replace("pi", "nano"), signer=NANO), BODY)
    assert came(fleet.moves(), Update)


def test_while_a_key_is_replaced_both_count_and_afterwards_one(fleet: Fleet) -> None:
    def sent(signer: KeySigner) -> list[ChannelEvent]:
        fleet.pi.send(None, by_pi(update(BODY), signer=signer), BODY)
        return fleet.moves()

    new = owner("pi's new key")
    assert refused(sent(new), "unknown key", fleet.gateway)
    fleet.let_in["pi"] = trusted("pi", "pi's new key")
    assert came(sent(PI), Update)
    assert came(sent(new), Update)
    fleet.let_in["pi"] = trusted("pi's new key")
    assert came(sent(new), Update)
    assert not came(sent(PI), Update)
    assert fleet.gateway.rejected["pi"] == 2


def test_the_gateways_key_is_replaced_likewise(fleet: Fleet) -> None:
    new = owner("the gateway's new key")
    frame = payload(signed(RECEIPT, DOWN, "", new))
    assert refused(fleet.deliver(fleet.pi, DOWN, frame), "unknown key", fleet.pi)
    fleet.believed = trusted("gateway", "the gateway's new key")
    assert came(fleet.deliver(fleet.pi, DOWN, frame), Receipt)


@pytest.mark.parametrize(
    ("first", "then"), [("whole", "in chunks"), ("in chunks", "whole")]
)  # fmt: skip
def test_a_signature_is_good_however_the_body_travels(fleet: Fleet, first: str, then: str) -> None:
    """The broker's limit may change between two attempts: what was stored is sent as it fits."""
    message = by_pi(update(LARGE), LARGE)
    options = {"whole": ChannelOptions(), "in chunks": SMALL}
    for way in (first, then):
        fleet.kill("pi")
        fleet.pi = fleet.open("pi", options[way])
        fleet.moves()
        fleet.pi.send(None, message, LARGE)
        [event] = [one for one in fleet.moves() if isinstance(one, Delivered | Rejected)
                   and not isinstance(getattr(one, "message", None), Failure)]  # fmt: skip
        assert isinstance(event, Delivered), event
        assert (event.message, event.body.read()) == (message, LARGE.read())


def test_a_signature_does_not_say_how_the_body_is_cut(fleet: Fleet) -> None:
    """It is the digest that counts: what is put together is checked against it."""
    message = by_pi(update(LARGE), LARGE)
    for chunk_bytes in (100, 250):
        absent = Absent(digest=LARGE.digest, size=LARGE.size, chunk_bytes=chunk_bytes)
        head = encode_message_head(message, absent)
        assert came(fleet.deliver(fleet.gateway, UP, head), Update)


def test_without_trust_nothing_is_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryBroker())
    device = world.device("pi")
    drain(device, world.gateway)
    device.send(None, update(BODY), BODY)
    world.gateway.send("pi", RECEIPT)
    events = drain(device, world.gateway)
    assert came(events, Update)
    [receipt] = came(events, Receipt)
    assert receipt == RECEIPT
    world.close()
