"""The broker where devices enrol: what a stranger may do there, by what is delivered."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet_world import SITE, Client, World

from aggregator.events import EVENTS, EventLog
from aggregator.identity.names import Duty, Role
from aggregator.identity.service import open_service
from aggregator.identity.visit import Pass, RefusedError, context_for
from fedsparse.transport.base import Connected, Received

CA = "fl/v1/prov/ca"
SERVICE = Role(duty=Duty.IDENTITY)


@pytest.fixture(scope="module", params=["started", "told to read its files again"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mosquitto: str
) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("fleet"))
    world.refresh()
    world.start_enrolment()
    if request.param != "started":
        world.tell()
    yield world
    world.close()


@pytest.fixture(scope="module")
def identity(running: World) -> Pass:
    return running.role(SERVICE)


@contextmanager
def stranger(world: World, client_id: bytes) -> Iterator[Client]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=world.fleet.authority.certificate_pem.decode())
    client = Client(("127.0.0.1", world.fleet.config.enrolment.port), context)
    try:
        client.connect(client_id=client_id)
        yield client
    finally:
        client.drop()


@contextmanager
def service(world: World, identity: Pass, *filters: str) -> Iterator[Client]:
    address = ("127.0.0.1", world.fleet.config.enrolment.service_port)
    client = Client(address, context_for(world.fleet.authority, identity))
    try:
        client.connect(client_id=secrets.token_hex(16).encode())
        if filters:
            client.subscribe(*filters)
        yield client
    finally:
        client.drop()


def came_in(address: tuple[str, int], context: ssl.SSLContext) -> Client | None:
    try:
        client = Client(address, context)
    except RefusedError:
        return None
    try:
        client.connect(client_id=request().encode())
    except RefusedError:
        client.drop()
        return None
    return client


def request() -> str:
    return secrets.token_hex(16)


def test_a_stranger_asks_and_is_answered(running: World, identity: Pass) -> None:
    mine = request()
    with (
        service(running, identity, "fl/v1/prov/req/#") as desk,
        stranger(running, mine.encode()) as client,
    ):
        client.subscribe(f"fl/v1/prov/res/{mine}")
        client.publish(f"fl/v1/prov/req/{mine}", b"please")
        assert desk.read_until(f"fl/v1/prov/req/{mine}") == b"please"
        desk.publish(f"fl/v1/prov/res/{mine}", b"here you are")
        assert client.read_until(f"fl/v1/prov/res/{mine}") == b"here you are"


@pytest.mark.parametrize(
    "client_id",
    [b"stranger", b"+", b"#", b"+/+", b"a/#", b"_identity", b"cam-01", b"ca", b"$SYS"],
)
def test_a_stranger_says_nothing_elsewhere_and_hears_nothing_of_others(
    running: World, identity: Pass, client_id: bytes
) -> None:
    """Whatever client id it takes, one that is a wildcard too."""
    theirs = request()
    mine = client_id.decode()
    forbidden = (
        CA,
        f"fl/v1/prov/req/{theirs}",
        f"fl/v1/prov/res/{theirs}",
        f"fl/v1/prov/res/{mine.replace('+', 'x').replace('#', 'x')}x",
        "fl/v1/prov",
        f"fl/v1/{SITE}/all/round",
        f"fl/v1/{SITE}/up/cam-01/message",
        "fl/v1/prov/req/x/y",
        "anything",
    )
    with service(running, identity, "#") as desk, stranger(running, client_id) as client:
        client.subscribe("#", "fl/v1/prov/res/+", "fl/v1/prov/req/+", "$SYS/#")
        for topic in forbidden:
            client.publish(topic, b"lie")
        desk.publish(f"fl/v1/prov/res/{theirs}", b"a certificate")
        desk.publish(f"fl/v1/prov/req/{theirs}", b"a request")
        desk.settle()
        client.settle()
        assert [payload for _, payload in desk.inbox if payload == b"lie"] == []
        assert client.inbox == []


def test_the_authoritys_certificate_is_there_for_everyone(running: World, identity: Pass) -> None:
    with service(running, identity) as desk:
        desk.publish(CA, b"the certificate", retain=True)
    with stranger(running, request().encode()) as client:  # the service is gone meanwhile
        client.subscribe(CA)
        assert client.read_until(CA) == b"the certificate"
    with service(running, identity) as desk:
        desk.publish(CA, b"", retain=True)


def test_the_service_cannot_be_thrown_off_by_whoever_takes_its_name(
    running: World, tmp_path: Path
) -> None:
    with EventLog(tmp_path / EVENTS) as diary:
        desk = open_service(running.fleet, diary)
        desk.start()
        try:
            while not isinstance(desk._transport.receive(10), Connected):
                pass
            with stranger(running, SERVICE.common_name.encode()) as client:
                client.settle()
            mine = request()
            with stranger(running, mine.encode()) as client:
                client.publish(f"fl/v1/prov/req/{mine}", b"please")
            assert isinstance(desk._transport.receive(10), Received)  # and not: disconnected
        finally:
            desk.close()


def test_strangers_who_fill_their_port_are_bounded_and_the_service_goes_on(
    running: World, identity: Pass
) -> None:
    crowd: list[Client] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=running.fleet.authority.certificate_pem.decode())
    address = ("127.0.0.1", running.fleet.config.enrolment.port)
    with service(running, identity, "fl/v1/prov/req/#") as desk:
        try:
            while len(crowd) < 200 and (one := came_in(address, context)) is not None:
                crowd.append(one)
            assert 50 < len(crowd) < 110
            crowd[0].settle()
            desk.settle()
        finally:
            for one in crowd:
                one.drop()
    with stranger(running, request().encode()) as client:  # there is room again
        client.settle()


def test_a_device_has_nothing_to_say_where_the_service_talks(running: World) -> None:
    device = running.device("cam-01")
    with (
        service(running, device, "#") as client,
        service(running, running.role(SERVICE), "#") as desk,
    ):
        for topic in (CA, "fl/v1/prov/res/x", "fl/v1/prov/req/x"):
            client.publish(topic, b"lie")
            desk.publish(topic, b"truth")
        client.settle()
        desk.settle()
        assert (client.inbox, desk.inbox) == ([], [])


def test_nobody_without_a_certificate_comes_to_the_services_port(running: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=running.fleet.authority.certificate_pem.decode())
    address = ("127.0.0.1", running.fleet.config.enrolment.service_port)
    with pytest.raises(RefusedError), Client(address, context):
        pass


@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_a_stranger_who_says_too_much_is_cut(running: World, size: int) -> None:
    mine = request()
    with stranger(running, mine.encode()) as client, pytest.raises(RefusedError):
        client.publish(f"fl/v1/prov/req/{mine}", bytes(size))


def test_a_stranger_without_a_name_of_its_own_is_refused(running: World) -> None:
    with pytest.raises(RefusedError), stranger(running, b""):
        pass
