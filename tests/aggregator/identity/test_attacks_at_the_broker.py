"""What a device that was let in may try on the fleet's own broker, and what a gateway hears.

Broker, configuration, access files and the gateway's end are the real ones; the attacker has a
good certificate, and writes bytes of his own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet_world import JOB, SITE, World

from aggregator.bounded_diary import BoundedDiary
from aggregator.events import EVENTS, EventLog
from aggregator.identity.joining import FleetTrust
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.signatures import KeySigner
from aggregator.identity.upkeep import add_role
from aggregator.identity.visit import Pass
from fedsparse.errors import TransportError
from fedsparse.transport.channel import Channel, ChannelEvent, Delivered, Rejected
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.limiter import MESSAGES_AT_ONCE, MESSAGES_PER_S, TOLD_AT_ONCE
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Failure, Ready, Stage, Status, Update
from fedsparse.wire.signing import signed
from fedsparse.wire.topics import Branch, Topics

TOPICS = Topics(SITE)
UP, OTHER = TOPICS.message(Branch.UP, "cam-01"), TOPICS.message(Branch.UP, "cam-02")
READY = Ready(job=JOB, round_id=1, attempt=0, level=None)
UPDATE = Update(
    job=JOB, round_id=1, stage=Stage.EVALUATE, level=0.1, num_examples=9, mask_digest="0" * 64,
    parts=(),
)  # fmt: skip
ATTACKS = sorted((Path(__file__).parents[2] / "attacks" / "wire").glob("*.hex"))
PATIENCE_S = 30.0


class Scene:
    """A gateway at the fleet's broker, an attacker `cam-01` and an honest `cam-02`."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.passes = {name: world.device(name) for name in ("cam-01", "cam-02")}
        path = add_role(world.fleet, Role(duty=Duty.GATEWAY, job=JOB), utc_now())
        world.refresh()
        world.start()
        tls = TlsConfig(ca=world.fleet.broker.authority, certificate=path, key=path)
        port = world.fleet.config.broker.port
        self.gateway = Channel(
            MqttTransport(BrokerConfig(host="localhost", port=port, tls=tls), client_id="gateway"),
            TOPICS, spool=folder / "spool", trust=FleetTrust(world.fleet).trust,
        )  # fmt: skip
        self.gateway.start()
        self.events: list[ChannelEvent] = []
        self.attacker = world.connected(self.passes["cam-01"])
        self.honest = world.connected(self.passes["cam-02"])
        self.is_heard()  # it has subscribed

    def close(self) -> None:
        self.attacker.drop()
        self.honest.drop()
        self.gateway.close()

    def wait(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, self.events[-5:]
            if event := self.gateway.poll(0.05):
                self.events.append(event)

    def is_heard(self) -> float:
        """How long it takes until the gateway hears the honest device."""
        began_s, before = time.monotonic(), len(self.of("cam-02"))
        self.honest.publish(OTHER, encode_message(READY))
        self.wait(lambda: len(self.of("cam-02")) > before)
        return time.monotonic() - began_s

    def of(self, device: str) -> list[Delivered]:
        return [one for one in self.events if isinstance(one, Delivered) and one.device == device]

    def told(self) -> list[Rejected]:
        return [one for one in self.events if isinstance(one, Rejected)]


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(world, tmp_path)
    yield made
    made.close()


def test_every_payload_of_the_collected_attacks_is_refused_and_others_go_on(scene: Scene) -> None:
    """Malformed frames, bombs of CBOR, lengths that lie, pickles, paths in names."""
    digest = "0" * 64
    sent = 0
    for path in ATTACKS:
        payload = bytes.fromhex(path.read_text().partition("\n")[2])
        if payload and "need" not in path.stem:  # which ask the gateway for what it has not
            topic = TOPICS.chunk(Branch.UP, "cam-01", digest, sent) if "chunk" in path.stem else UP
            scene.attacker.publish(topic, payload)
            sent += 1
            if sent % 50 == 0:
                scene.is_heard()
    scene.wait(lambda: scene.gateway.rejected["cam-01"] == sent)
    assert sent > 90
    assert not scene.of("cam-01")
    assert len(scene.told()) == TOLD_AT_ONCE  # all are counted, few are told
    assert not list((scene.folder / "spool").rglob("*.*"))
    scene.is_heard()


def test_a_payload_beyond_a_mebibyte_is_dropped_and_a_packet_beyond_two_ends_its_sender(
    scene: Scene,
) -> None:
    scene.attacker.publish(UP, bytes(1_500_000))
    scene.wait(lambda: scene.gateway.rejected["cam-01"] == 1)
    assert "send chunks" in scene.told()[0].reason
    with pytest.raises((TransportError, OSError)):
        scene.attacker.publish(UP, bytes(2_100_000))
    scene.is_heard()
    assert scene.gateway.rejected.total() == 1


@pytest.mark.parametrize(
    "tail",
    ["message/../../cam-02/message", "../cam-02/message", "chunk/../0", "chunk/..%2f..%2fx/0",
     f"chunk/{'0' * 64}/../../x", f"chunk/{'0' * 64}/-1", f"chunk/{'0' * 63}/0", "status/x",
     "x" * 900],
)  # fmt: skip
def test_a_path_in_a_topic_leads_nowhere(scene: Scene, tail: str) -> None:
    scene.attacker.publish(f"fl/v1/{SITE}/up/cam-01/{tail}", encode_message(READY))
    scene.attacker.publish(UP, encode_message(READY))
    scene.wait(lambda: bool(scene.of("cam-01")))
    assert len(scene.of("cam-01")) == 1
    assert not list((scene.folder / "spool").rglob("*.*"))


def test_nobody_speaks_in_the_name_of_another(scene: Scene) -> None:
    """Neither on its topics nor, on his own, in his messages, nor with its signature."""
    honest = Status(device="cam-02", online=False)
    scene.attacker.publish(OTHER, encode_message(Failure(job=JOB, round_id=1, reason="spoofed")))
    scene.attacker.publish(TOPICS.status("cam-02"), encode_message(honest), retain=True)
    scene.attacker.publish(TOPICS.status("cam-01"), encode_message(honest))
    theirs = signed(UPDATE, OTHER, "", _signer(scene.passes["cam-02"]))
    scene.attacker.publish(UP, encode_message(theirs))
    scene.attacker.publish(UP, encode_message(UPDATE))
    own = signed(UPDATE, UP, "", _signer(scene.passes["cam-01"]))
    scene.attacker.publish(UP, encode_message(own))
    scene.wait(lambda: bool(scene.of("cam-01")))
    heard = [one.device for one in scene.events if isinstance(one, Delivered)]
    assert heard == ["cam-02", "cam-01"]
    assert [one.device for one in scene.told()] == ["cam-01"] * 3
    expected = ("claims to be", "unknown key", "not signed")
    for part, one in zip(expected, scene.told(), strict=True):
        assert part in one.reason


def test_a_flood_from_one_device_keeps_no_other_waiting_and_fills_no_disk(
    scene: Scene, tmp_path: Path
) -> None:
    calm_s = max(scene.is_heard() for _ in range(5))
    flood = encode_message(READY)
    number = 20 * MESSAGES_AT_ONCE
    began_s = time.monotonic()
    waits_s = []
    with EventLog(tmp_path / EVENTS) as log:
        diary = BoundedDiary(log, time.monotonic)
        for batch in range(20):
            for _ in range(number // 20):
                scene.attacker.publish(UP, flood if batch % 2 else b"not a frame")
            waits_s.append(scene.is_heard())
        scene.wait(lambda: heard(scene, "cam-01") >= number)
        took_s = time.monotonic() - began_s
        for event in scene.events:
            if isinstance(event, Rejected):
                diary.write("rejected", device=event.device, reason=event.reason)
    allowed = MESSAGES_AT_ONCE + MESSAGES_PER_S * took_s
    assert len(scene.of("cam-01")) <= allowed
    assert scene.gateway.rejected["cam-01"] >= number - allowed
    assert sorted(waits_s)[len(waits_s) // 2] < max(0.5, 10 * calm_s)
    assert (tmp_path / EVENTS).stat().st_size < 5_000


def heard(scene: Scene, device: str) -> int:
    return len(scene.of(device)) + scene.gateway.rejected[device]


def _signer(shown: Pass) -> KeySigner:
    return KeySigner(shown.key)  # type: ignore[arg-type]
