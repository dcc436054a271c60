"""Throwing somebody out of a fleet whose broker runs, and what they may try then."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from fleet_world import JOB, SITE, Client, World

from aggregator.identity import revocation, running
from aggregator.identity.crl import build_list
from aggregator.identity.issuing import issue_role
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.publishing import publish, read_list
from aggregator.identity.revocation import revoke_device, revoke_role
from aggregator.identity.running import process_of, reload_brokers
from aggregator.identity.upkeep import keep_fresh
from aggregator.identity.visit import Pass, RefusedError, Visit, context_for
from aggregator.store import certificates, devices, tokens
from aggregator.store.tokens import Token
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, TransportError
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Status

UP, DOWN = f"fl/v1/{SITE}/up/cam-01", f"fl/v1/{SITE}/down/cam-01"
GATEWAY = Role(duty=Duty.GATEWAY, job=JOB)
ONLINE = b"retained by the device"


def let_in(world: World, shown: Pass) -> bool:
    try:
        with world.client(shown):
            return True
    except RefusedError:
        return False


def test_a_device_that_is_thrown_out_is_gone_and_cannot_come_back(world: World) -> None:
    stolen, other, another = (world.device(f"cam-0{number}") for number in (1, 2, 3))
    gateway = world.role(GATEWAY)
    world.refresh()
    world.start()
    watching = world.connected(gateway, f"fl/v1/{SITE}/up/+/status")
    staying = world.connected(other, f"fl/v1/{SITE}/down/cam-02/message")
    live = world.connected(stolen, f"{DOWN}/message", will=(f"{UP}/status", b"will"))
    live.publish(f"{UP}/status", ONLINE, retain=True)
    assert watching.read_until(f"{UP}/status") == ONLINE

    outcome = revoke_device(world.fleet, "cam-01", "stolen", utc_now())

    assert (outcome.certificates, outcome.in_force) == (1, True)
    assert live.is_cut()
    assert not let_in(world, stolen)
    assert let_in(world, another)
    last = decode_message(watching.read_until(f"{UP}/status"))[0]
    assert last == Status(device="cam-01", online=False)
    watching.publish(f"fl/v1/{SITE}/down/cam-02/message", b"still here?")
    assert staying.read_until(f"fl/v1/{SITE}/down/cam-02/message") == b"still here?"
    for client in (watching, staying, live):
        client.drop()


def test_whoever_watches_later_sees_that_it_is_offline(world: World) -> None:
    stolen, gateway = world.device("cam-01"), world.role(GATEWAY)
    world.refresh()
    world.start()
    with world.client(stolen) as client:
        client.publish(f"{UP}/status", ONLINE, retain=True)
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    with world.client(gateway, f"fl/v1/{SITE}/up/+/status") as later:
        status = decode_message(later.read_until(f"{UP}/status"))[0]
    assert status == Status(device="cam-01", online=False)


def test_a_live_connection_goes_on_until_it_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the list alone is not enough, and that the access file holds meanwhile."""
    stolen, gateway = world.device("cam-01"), world.role(GATEWAY)
    world.refresh()
    world.start()
    live = world.connected(stolen, f"{DOWN}/message")
    with world.client(gateway, f"{UP}/message") as watching:
        live.publish(f"{UP}/message", b"before")
        assert watching.read_until(f"{UP}/message") == b"before"

        def no_eviction(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(revocation, "_evict", no_eviction)
            with pytest.raises(KeyboardInterrupt):
                revoke_device(world.fleet, "cam-01", "stolen", utc_now())
        live.publish(f"{UP}/message", b"after")  # it is acknowledged: the connection lasts
        watching.publish(f"{DOWN}/message", b"for the device alone")
        live.settle()
        assert live.inbox == []
        watching.settle()
        assert [payload for _, payload in watching.inbox] == [b"before"]
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())  # the same command again
    assert live.is_cut()
    live.drop()


def test_what_waits_for_a_device_that_is_thrown_out_is_thrown_away(world: World) -> None:
    stolen, gateway = world.device("cam-01"), world.role(GATEWAY)
    world.refresh()
    world.start()
    world.connected(stolen, f"{DOWN}/message", keep=True).drop()
    with world.client(gateway) as sending:
        sending.publish(f"{DOWN}/message", b"waits")
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    again = enrolled_again(world)
    client = world.connected(again, keep=True)
    client.settle()
    assert client.inbox == []
    client.drop()


def test_a_device_that_enrols_again_comes_in_and_its_old_certificate_does_not(
    world: World,
) -> None:
    stolen = world.device("cam-01")
    world.refresh()
    world.start()
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    gateway = world.role(GATEWAY)
    again = enrolled_again(world)
    with world.client(again) as client, world.client(gateway, f"{UP}/message") as watching:
        client.publish(f"{UP}/message", b"here I am")
        assert watching.read_until(f"{UP}/message") == b"here I am"
    assert not let_in(world, stolen)


def enrolled_again(world: World) -> Pass:
    made = world.device("cam-01")
    assert keep_fresh(world.fleet, utc_now()) == ("the broker's rules",)
    eventually(lambda: let_in(world, made))
    return made


def test_a_stolen_session_is_worth_nothing_after_the_revocation(world: World) -> None:
    """Also where the broker hands sessions out: it is started without the fleet's settings."""
    stolen = world.device("cam-01")
    world.refresh()
    world.fleet.broker.openssl_conf.write_text("")
    world.start()
    context = context_for(world.fleet.authority, stolen)
    with Client(world.address, context) as first:
        first.subscribe("settle")
        session = first._link.session
    assert session is not None
    assert session.has_ticket
    assert resumed(world, context, session) is True
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    assert resumed(world, context, session) is None


def resumed(world: World, context: ssl.SSLContext, session: ssl.SSLSession) -> bool | None:
    """Whether a connection is resumed; None: it is refused."""
    plain = socket.create_connection(world.address, timeout=10)
    visit = Visit.__new__(Visit)
    try:
        visit._link = context.wrap_socket(plain, server_hostname="localhost", session=session)
        visit.connect()
        return visit._link.session_reused
    except (RefusedError, OSError):
        return None
    finally:
        visit._link.close()


def test_two_devices_thrown_out_within_one_second_are_both_out(world: World) -> None:
    first, second = world.device("cam-01"), world.device("cam-02")
    staying = world.device("cam-03")
    world.refresh()
    world.start()
    now = utc_now()  # the same moment for both
    revoke_device(world.fleet, "cam-01", "stolen", now)
    revoke_device(world.fleet, "cam-02", "stolen", now)
    assert [let_in(world, one) for one in (first, second, staying)] == [False, False, True]


def test_a_list_past_its_time_refuses_everyone_and_a_new_one_heals_it(world: World) -> None:
    device, gateway = world.device("cam-01"), world.role(GATEWAY)
    world.refresh()
    then = utc_now() - timedelta(days=20)
    stale = build_list(world.fleet.authority, [], number=1, begins=then, now=then)
    write_durably(world.fleet.broker.crl, stale.public_bytes(Encoding.PEM))
    world.start()
    assert [let_in(world, one) for one in (device, gateway)] == [False, False]
    assert "the revocation list" in keep_fresh(world.fleet, utc_now())
    eventually(lambda: let_in(world, device))
    assert let_in(world, gateway)


def test_a_list_is_renewed_daily_and_long_before_its_end(world: World) -> None:
    now = utc_now()
    keep_fresh(world.fleet, now)
    first = read_list(world.fleet.broker.crl)
    assert keep_fresh(world.fleet, now + timedelta(hours=23)) == ()
    assert keep_fresh(world.fleet, now + timedelta(hours=25)) == ("the revocation list",)
    second = read_list(world.fleet.broker.crl)
    assert first is not None
    assert second is not None
    assert second.next_update_utc - first.next_update_utc == timedelta(hours=25)
    assert second.last_update_utc > first.last_update_utc


@pytest.mark.parametrize("step", ["publish", "reload_brokers", "_taken_in", "_visit"])
def test_a_revocation_that_was_killed_is_in_force_at_the_next_start_and_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stolen, other = world.device("cam-01"), world.device("cam-02")
    world.refresh()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(revocation, step, killed)
        with pytest.raises(KeyboardInterrupt):
            revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    world.refresh()  # as every program of the gateway does when it starts
    world.start()
    assert [let_in(world, one) for one in (stolen, other)] == [False, True]
    assert revoke_device(world.fleet, "cam-01", "stolen", utc_now()).in_force


def test_a_process_of_the_gateway_is_thrown_out_likewise(world: World) -> None:
    issue_role(world.fleet, GATEWAY, utc_now())
    stolen = world.role(GATEWAY)
    world.refresh()
    world.start()
    live = world.connected(stolen)
    outcome = revoke_role(world.fleet, GATEWAY, "stolen", utc_now())
    assert (outcome.certificates, outcome.in_force) == (2, True)
    assert live.is_cut()
    live.drop()
    assert not let_in(world, stolen)
    assert f"user {GATEWAY.common_name}\n" not in world.fleet.broker.acl.read_text()
    assert not world.fleet.role_file(GATEWAY).exists()


def test_without_a_broker_the_files_say_it_and_it_holds_when_one_starts(world: World) -> None:
    stolen, other = world.device("cam-01"), world.device("cam-02")
    world.refresh()
    assert revoke_device(world.fleet, "cam-01", "stolen", utc_now()).in_force is False
    world.start()
    assert [let_in(world, one) for one in (stolen, other)] == [False, True]


def test_its_tokens_are_gone_so_that_the_thief_cannot_enrol_again(world: World) -> None:
    world.device("cam-01")
    now_ms = to_ms(utc_now())
    token = Token(id="ABCD", device="cam-01", key=b"k", made_ms=now_ms, expires_ms=now_ms + 9)
    with world.fleet.store.writing() as db:
        tokens.add(db, token)
        tokens.add(db, replace(token, id="EFGH", device="cam-02"))
    world.refresh()
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    with world.fleet.store.reading() as db:
        assert [one.id for one in tokens.everyone(db)] == ["EFGH"]


def test_a_device_that_nobody_knows_is_named_with_the_way_out(world: World) -> None:
    with pytest.raises(ConfigError, match="identity list"):
        revoke_device(world.fleet, "cam-09", "stolen", utc_now())
    with pytest.raises(ConfigError, match="no certificate"):
        revoke_role(world.fleet, GATEWAY, "stolen", utc_now())


def test_a_broker_that_does_not_read_its_files_is_not_passed_over(world: World) -> None:
    """It was started by somebody else, and nobody said how to tell it."""
    world.device("cam-01")
    world.refresh()
    world.start()
    world.fleet.broker.pid.unlink()
    with pytest.raises(TransportError, match=r"still lets revoked certificates in.*reload_command"):
        revoke_device(world.fleet, "cam-01", "stolen", utc_now())


def test_a_broker_that_is_stopped_without_a_word_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, but does not take the list in: a revocation that is not in force is an error."""
    world.device("cam-01")
    world.refresh()
    world.start()
    monkeypatch.setattr(revocation, "reload_brokers", lambda _: True)
    monkeypatch.setattr(revocation, "TAKEN_IN_S", 0.2)
    with pytest.raises(TransportError, match="still lets revoked certificates in"):
        revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    monkeypatch.undo()
    assert revoke_device(world.fleet, "cam-01", "stolen", utc_now()).in_force


def test_a_store_that_was_set_back_lets_nobody_in_again(world: World) -> None:
    stolen = world.device("cam-01")
    world.refresh()
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    with world.fleet.store.writing() as db:  # as if the backup had been made before
        db.execute(certificates.TABLE.delete())
        devices.enrol(db, "cam-01", bytes(32), to_ms(utc_now()))
    publish(world.fleet, utc_now())
    world.start()
    assert not let_in(world, stolen)


def test_what_has_ended_leaves_the_list(world: World) -> None:
    world.device("cam-01")
    now = utc_now()
    world.refresh()
    revoke_device(world.fleet, "cam-01", "stolen", now)
    counts = []
    for days in (0, 1, 89, 91):
        publish(world.fleet, now + timedelta(days=days))
        present = read_list(world.fleet.broker.crl)
        assert present is not None
        counts.append(len(list(present)))
    assert counts == [2, 1, 1, 0]  # the one that tried the broker lasts minutes


def test_a_damaged_list_is_written_anew(world: World) -> None:
    world.device("cam-01")
    world.refresh()
    revoke_device(world.fleet, "cam-01", "stolen", utc_now())
    world.fleet.broker.crl.write_bytes(b"-----BEGIN X509 CRL-----\nnonsense")
    assert "the revocation list" in keep_fresh(world.fleet, utc_now())
    present = read_list(world.fleet.broker.crl)
    assert present is not None
    with world.fleet.store.reading() as db:
        (gone,) = certificates.of(db, "cam-01")
    assert int(gone.serial, 16) in {one.serial_number for one in present}


def test_the_number_of_a_process_that_is_another_by_now_is_not_signalled(world: World) -> None:
    world.refresh()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        world.fleet.broker.pid.write_text(f"{other.pid}\n")
        assert process_of(world.fleet.broker) is None
        assert reload_brokers(world.fleet) is False
        assert other.poll() is None
        other.communicate(b"\n")


def test_a_broker_is_found_by_its_files_and_told(world: World) -> None:
    world.refresh()
    world.start()
    assert world.broker is not None
    assert process_of(world.fleet.broker) == world.broker.process.pid
    os.kill(world.broker.process.pid, signal.SIGTERM)
    world.broker.process.wait()
    assert process_of(world.fleet.broker) is None


def test_a_broker_that_is_not_ready_for_signals_is_not_ended_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between writing its number and listening to signals, one would end it."""
    world.refresh()
    pause = "import sys, time; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", pause, str(world.fleet.broker.conf)]
    monkeypatch.setattr(running, "READY_S", 0.05)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as early:
        assert early.stdout is not None
        early.stdout.readline()
        world.fleet.broker.pid.write_text(f"{early.pid}\n")
        assert process_of(world.fleet.broker) == early.pid
        assert reload_brokers(world.fleet) is False
        assert early.poll() is None
        early.communicate(b"")


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["false"], "reload_command ended with 1"),
        (["/no/such/program"], "reload_command"),
    ],
)
def test_an_operators_command_that_fails_is_an_error(
    world: World, command: list[str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        reload_brokers(with_command(world, command))


def test_an_operators_command_is_run(world: World) -> None:
    told = world.fleet.folder / "told"
    assert reload_brokers(with_command(world, ["touch", str(told)])) is True
    assert told.exists()


def with_command(world: World, command: list[str]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    broker = replace(world.fleet.config.broker, reload_command=tuple(command))
    return replace(world.fleet, config=replace(world.fleet.config, broker=broker))


def eventually(step: Callable[[], bool]) -> None:
    """A broker that was told reads its files a moment later; each try takes a connection."""
    for _ in range(500):
        if step():
            return
    raise AssertionError("it did not happen")
