"""Who may read and write which topic, by what is delivered: an acknowledgement says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from fleet_world import JOB, SITE, PlainClient, World, topics_of

from aggregator.identity import broker_files
from aggregator.identity.keys import new_service_key
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.revocation import revoke_device
from aggregator.identity.visit import Pass, RefusedError
from tools.broker import free_port

BASE = f"fl/v1/{SITE}"
DEVICE, OTHER, THROWN_OUT = "cam-01", "cam-02", "cam-07"
ROLES = {
    "gateway": Role(duty=Duty.GATEWAY, job=JOB),
    "identity": Role(duty=Duty.IDENTITY),
    "doctor": Role(duty=Duty.DOCTOR),
    "operator": Role(duty=Duty.OPERATOR),
}
UNKNOWN = Role(duty=Duty.GATEWAY, job="unknown")  # its certificate is not in the store
NAMES = (
    DEVICE,
    OTHER,
    THROWN_OUT,
    *(role.common_name for role in (*ROLES.values(), UNKNOWN)),
)
TOPICS = (
    *topics_of(BASE, NAMES),
    "fl/v1/elsewhere/all/round",
    f"fl/v1/elsewhere/up/{DEVICE}/message",
    f"fl/v1/elsewhere/down/{DEVICE}/message",
    "fl/v1/prov/ca",
    f"fl/v1/prov/req/{DEVICE}",
    f"fl/v1/prov/res/{DEVICE}",
    f"{DEVICE}",
    "anything",
)

# What each may do; whatever no expression here matches whole is forbidden.
MAY_WRITE = {
    "device": [rf"{BASE}/up/{DEVICE}/.+"],
    "gateway": [rf"{BASE}/down/(?!_gateway\.digits/).+", rf"{BASE}/all/.+"],
    "identity": [rf"{BASE}/down/(?!_identity/)[^/]+/renew"],
    "doctor": [],
    "operator": [rf"{BASE}/up/(?!_operator/)[^/]+/status"],
    "thrown out": [],
    "no role": [rf"{BASE}/up/_gateway\.unknown/.+"],  # which no gateway takes for a device's
}
MAY_READ = {
    "device": [rf"{BASE}/down/{DEVICE}/.+", rf"{BASE}/all/.+"],
    "gateway": [rf"{BASE}/up/(?!_gateway\.digits/).+", rf"{BASE}/all/.+"],
    "identity": [rf"{BASE}/up/(?!_identity/)[^/]+/renew", rf"{BASE}/all/.+"],
    "doctor": [rf"{BASE}/up/(?!_doctor/)[^/]+/status", rf"{BASE}/all/.+"],
    "operator": [rf"{BASE}/all/.+"],
    "thrown out": [],
    "no role": [rf"{BASE}/down/_gateway\.unknown/.+", rf"{BASE}/all/.+"],
}
SUBJECTS = tuple(MAY_WRITE)


@dataclass(frozen=True)
class Scene:
    world: World
    passes: dict[str, Pass]
    everywhere: int  # a port where everything is allowed, for the test's own eyes

    @contextmanager
    def eyes(self) -> Iterator[PlainClient]:
        client = PlainClient(self.everywhere)
        client.connect()
        yield client
        client.drop()


@pytest.fixture(scope="module", params=["started", "told to read its files again"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mosquitto: str
) -> Iterator[Scene]:
    world = World(tmp_path_factory.mktemp("fleet"))
    passes = {name: world.role(role) for name, role in ROLES.items()}
    passes["device"] = world.device(DEVICE)
    world.device(THROWN_OUT)
    revoke_device(world.fleet, THROWN_OUT, "stolen", utc_now())  # no broker runs yet
    passes["thrown out"] = world.device(THROWN_OUT, authority=world.fleet.authority)
    key = new_service_key()
    certificate = world.fleet.authority.issue_role(UNKNOWN, key.public_key(), utc_now())
    passes["no role"] = Pass(certificate=certificate, key=key)
    port = free_port("127.0.0.1", 0)
    with_eyes = f"\nlistener {port} 127.0.0.1\nallow_anonymous true\n\nlistener "
    conf = broker_files.FLEET_CONF.replace("\nlistener ", with_eyes, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker_files, "FLEET_CONF", conf)
        world.refresh()
        world.start()
        if request.param != "started":
            world.tell()
    yield Scene(world, passes, port)
    world.close()


def allowed(rules: list[str]) -> set[str]:
    return {topic for topic in TOPICS if any(re.fullmatch(rule, topic) for rule in rules)}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_it_writes_is_delivered_where_it_may_write_and_nowhere_else(
    scene: Scene, subject: str
) -> None:
    with scene.eyes() as eyes, scene.world.client(scene.passes[subject]) as client:
        eyes.subscribe("#")
        for topic in TOPICS:
            client.publish(topic, subject.encode())
        eyes.publish("all is said", b"")
        eyes.read_until("all is said")
        delivered = {topic for topic, payload in eyes.inbox if payload == subject.encode()}
    assert delivered == allowed(MAY_WRITE[subject])


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("filters", ["each topic", "#", "+/+/+/+/+/#", "$share/group/#"])
def test_what_it_reads_is_what_it_may_read_whatever_it_asks_for(
    scene: Scene, subject: str, filters: str
) -> None:
    wanted = TOPICS if filters == "each topic" else (filters,)
    with scene.eyes() as eyes, scene.world.client(scene.passes[subject], *wanted) as client:
        for topic in TOPICS:
            eyes.publish(topic, b"secret")
        client.settle()
        delivered = {topic for topic, _ in client.inbox}
    short = {topic for topic in TOPICS if topic.count("/") < 4}
    assert delivered == allowed(MAY_READ[subject]) - (short if filters.startswith("+") else set())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_brokers_own_figures_are_for_none_of_them(scene: Scene, subject: str) -> None:
    with scene.eyes() as eyes, scene.world.client(scene.passes[subject]) as client:
        eyes.subscribe("$SYS/broker/version")
        eyes.read_until("$SYS/broker/version")  # there are some
        client.subscribe("$SYS/#")
        client.settle()
        assert client.inbox == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_retained_is_read_by_who_may_read_it_only(scene: Scene, subject: str) -> None:
    with scene.eyes() as eyes:
        for topic in TOPICS:
            eyes.publish(topic, b"kept", retain=True)
        with scene.world.client(scene.passes[subject], "#") as client:
            client.settle()
            delivered = {topic for topic, _ in client.inbox}
        for topic in TOPICS:
            eyes.publish(topic, b"", retain=True)
    assert delivered == allowed(MAY_READ[subject])


def test_there_is_something_to_allow_and_something_to_forbid_to_each(scene: Scene) -> None:
    for rules in (MAY_WRITE, MAY_READ):
        for subject, expressions in rules.items():
            for one in expressions:
                assert any(re.fullmatch(one, topic) for topic in TOPICS), (subject, one)
            assert allowed(expressions) < set(TOPICS)


def test_a_will_is_said_only_where_its_owner_may_write(scene: Scene) -> None:
    mine, theirs = f"{BASE}/up/{DEVICE}/status", f"{BASE}/up/{OTHER}/status"
    with scene.eyes() as eyes:
        eyes.subscribe("#")
        for topic in (theirs, mine):
            client = scene.world.connected(scene.passes["device"], will=(topic, b"gone"))
            client.drop()
        eyes.read_until(mine)
        assert [topic for topic, _ in eyes.inbox] == [mine]


def test_whatever_client_id_is_claimed_the_certificate_says_who_it_is(scene: Scene) -> None:
    """Two connections that claim one id are two clients, if their certificates differ."""
    first = scene.world.connected(scene.passes["device"], f"{BASE}/down/{DEVICE}/message")
    with scene.world.client(scene.passes["gateway"]) as other:  # both say "visitor"
        other.publish(f"{BASE}/down/{DEVICE}/message", b"still there?")
    assert first.read_until(f"{BASE}/down/{DEVICE}/message") == b"still there?"
    first.drop()


def test_a_packet_of_the_default_limit_of_newer_brokers_is_the_largest(scene: Scene) -> None:
    topic = f"{BASE}/up/{DEVICE}/message"
    room = 2_000_000 - len(topic) - 8  # two lengths, the packet's number, and its own head
    client = scene.world.connected(scene.passes["device"])
    with scene.eyes() as eyes:
        eyes.subscribe(topic)
        client.publish(topic, bytes(room))
        assert len(eyes.read_until(topic)) == room
        with pytest.raises(RefusedError):
            client.publish(topic, bytes(room + 4))  # mosquitto does not count its own head
    client.drop()
