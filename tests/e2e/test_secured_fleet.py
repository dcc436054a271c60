"""A job in a fleet with an authority of its own: real processes, each with its certificate."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from e2e_fleet import JOB, Event, assert_same
from secured_fleet import Eyes, SecuredFleet

from aggregator.identity.signatures import KeySigner, raw_key
from fedsparse.errors import ProtocolError
from fedsparse.transport.config import BrokerConfig
from fedsparse.wire.frame import decode_frame
from fedsparse.wire.headers import encode_message, read_message
from fedsparse.wire.messages import Message, Offer, Receipt, Stage, Task, Update, Verdict
from fedsparse.wire.signing import Trusted, signed

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]

SITE = f"fl/v1/{JOB.site}"
Result = dict[str, "np.ndarray[Any, Any]"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SecuredFleet]:
    cohort = replace(JOB.cohort, min_devices=2, offline_grace_s=1)
    with SecuredFleet(tmp_path, cohort) as made:
        yield made


@pytest.fixture(scope="module")
def calm(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    """A whole job at an honest broker, and all that was said up there."""
    with SecuredFleet(tmp_path_factory.mktemp("calm")) as made:
        made.let_all_in()
        watch = made.pass_of("gateway.watch")
        made.start_broker()
        eyes = Eyes(watch, "eyes", f"{SITE}/up/+/message")
        made.start()
        made.wait_until_done()
        heard = [(one.topic, one.payload) for one in eyes.came()]
        eyes.close()
        yield Calm(made, made.result(), heard)


class Calm:
    def __init__(self, fleet: SecuredFleet, result: Result, heard: list[tuple[str, bytes]]) -> None:
        self.fleet, self.result, self.heard = fleet, result, heard


def test_devices_that_enrolled_do_a_whole_job_and_every_update_is_signed(calm: Calm) -> None:
    signed_by = set()
    for topic, payload in calm.heard:
        frame = decode_frame(payload)
        message = read_message(frame)
        if isinstance(message, Update):
            device = topic.split("/")[4]
            certificate = calm.fleet.identity_of(device).read_bytes()
            key = raw_key(x509.load_pem_x509_certificate(certificate))
            Trusted([key]).check_frame(topic, frame)
            signed_by.add((device, message.round_id))
    events = calm.fleet.named("update")
    assert {(one["device"], one["round"]) for one in events} == signed_by
    assert {device for device, _ in signed_by} == set(calm.fleet.devices)
    assert not calm.fleet.named("rejected")
    for device in calm.fleet.devices:
        assert "rejected=" not in calm.fleet.log_of(device)


class Rogue:
    """Who has taken over the broker: he hears all, and says to everybody what he likes."""

    def __init__(self, broker: BrokerConfig, devices: list[str]) -> None:
        self._devices = devices
        self._eyes = Eyes(broker, "rogue", f"{SITE}/#")
        self._key = KeySigner(Ed25519PrivateKey.generate())
        self._said: set[bytes] = set()
        self._heard: list[tuple[str, bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rogue")
        self.lies: dict[str, int] = {}

    def __enter__(self) -> Rogue:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._eyes.close()

    def _work(self) -> None:
        while not self._stop.wait(0.005):
            for one in self._eyes.came():
                if one.payload and one.payload not in self._said:
                    with suppress(ProtocolError):
                        self._lie_about(one.topic, one.payload)

    def _lie_about(self, topic: str, payload: bytes) -> None:
        frame = decode_frame(payload)
        message, body = read_message(frame), bytes(frame.body)
        if isinstance(message, Update):
            self._about_update(topic, message, body)
        elif isinstance(message, Task) and not message.brings_plan:
            for device in self._devices:
                self._say("task of another", f"{SITE}/down/{device}/message", message, body)
            self._say("weights", topic, message, _turned(body))
            self._say("learning rate", topic, replace(message, learning_rate=9.0), body)
        elif isinstance(message, Offer) and message.stage is not Stage.DONE:
            self._say("end of the job", topic, replace(message, stage=Stage.DONE), b"")
            later = replace(message, round_id=message.round_id + 7)
            self._say("round", topic, later, b"")
        if isinstance(message, Task | Update | Receipt):
            for where, old in self._heard:
                self._publish("old", where, old)
            self._heard.append((topic, payload))

    def _about_update(self, topic: str, update: Update, body: bytes) -> None:
        for device in self._devices:
            self._say("update of another", f"{SITE}/up/{device}/message", update, body)
        self._say("weights", topic, update, _turned(body))
        self._say("examples", topic, replace(update, num_examples=1), body)
        receipt = Receipt(
            job=update.job, round_id=update.round_id, verdict=Verdict.REJECTED,
            update_digest=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        self._say("receipt", topic.replace("/up/", "/down/"), receipt, b"")

    def _say(self, lie: str, topic: str, message: Message, body: bytes) -> None:
        """As it is, and with a signature of his own."""
        self._publish(lie, topic, encode_message(message, body))
        assert isinstance(message, Offer | Task | Receipt | Update)
        digest = hashlib.sha256(body).hexdigest() if body else ""
        forged = signed(message, topic, digest, self._key)
        self._publish(lie, topic, encode_message(forged, body))

    def _publish(self, lie: str, topic: str, payload: bytes) -> None:
        self.lies[lie] = self.lies.get(lie, 0) + 1
        self._said.add(payload)
        self._eyes.transport.publish(topic, payload)


def _turned(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 0x01]) if body else body


def test_who_has_taken_over_the_broker_changes_nothing_that_is_learnt(
    calm: Calm, tmp_path: Path
) -> None:
    with SecuredFleet(tmp_path) as made:
        made.let_all_in()
        broker = made.start_rogue_broker()
        with Rogue(broker, made.devices) as rogue:
            made.start()
            made.wait_until_done()
        assert_same(made.result(), calm.result)
        kinds = {"weights", "examples", "receipt", "round", "end of the job", "learning rate",
                 "old", "task of another", "update of another"}  # fmt: skip
        assert kinds <= set(rogue.lies)
        reasons = " ".join(one["reason"] for one in made.named("rejected"))
        assert "unknown key" in reasons
        for device in made.devices:
            assert "rejected=" in made.log_of(device)
        for name in (*made.devices, "aggregator"):
            assert "Traceback" not in made.log_of(name)


def test_a_job_goes_on_without_the_device_that_was_thrown_out(fleet: SecuredFleet) -> None:
    fleet.let_all_in()
    fleet.start_broker()
    fleet.start()
    fleet.wait_for(lambda event: is_update(event, of="device-2"))

    said = fleet.operator("revoke", "device-2", "--fleet", str(fleet.home))

    assert "its connection is ended" in said
    fleet.wait_for(lambda event: is_gone(event, "device-2"))
    before = len(fleet.events)
    fleet.wait_until_done()
    after = fleet.events[before:]
    assert "device-2" not in {event.get("device") for event in after}
    assert any(is_update(event, of="device-0") for event in after)


def is_update(event: Event, of: str) -> bool:
    return (event["event"], event.get("device")) == ("update", of)


def is_gone(event: Event, device: str) -> bool:
    return (event["event"], event.get("device")) == ("device_offline", device)
