"""Devices enrol over a real broker: who gets in, who does not, and what others see of it."""

from __future__ import annotations

import ssl
import stat
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from enrolment_town import SITE, Town, files_of
from relay import Relay

from aggregator.identity import service as service_module
from aggregator.identity.authority import Authority, pem_of, read_certificate
from aggregator.identity.enrolling import Reply
from aggregator.identity.issuing import note
from aggregator.identity.keys import read_service_key
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.revocation import revoke_device
from aggregator.identity.tokens import WRONG_PROOFS
from aggregator.identity.upkeep import add_role
from aggregator.identity.visit import Pass, Visit, context_for
from aggregator.store import certificates, devices, tokens
from edge_client.agent.renewal import Renewal
from edge_client.config import ClientConfig
from edge_client.identity.errand import Desk, Errand, RefusedError, look
from edge_client.identity.keys import DeviceKey
from edge_client.identity.renew import present, renew
from fedsparse.errors import ConfigError, TransportError
from fedsparse.transport.base import Received
from fedsparse.transport.config import TlsConfig
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.transport.tls import open_context
from fedsparse.wire.enrolment import (
    AUTHORITY_TOPIC,
    CLAIMS,
    Answer,
    decode_claim,
    encode_proved,
    new_request,
    request_topic,
)
from fedsparse.wire.enrolment_code import Code, derive_key, parse_code
from fedsparse.wire.topics import Topics
from tools.identity.mosquitto import start_mosquitto

GATEWAY = Role(duty=Duty.GATEWAY, job="digits")


def mistyped(code: Code) -> Code:
    last = "0" if code.secret[-1] != "0" else "1"
    return parse_code(code.code_id + code.secret[:-1] + last)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def secrets_of(config: ClientConfig, code: Code) -> dict[str, bytes]:
    """Everything that nobody else may learn, in all forms in which it could pass."""
    key = DeviceKey.read(files_of(config).device.read_bytes(), "test")
    seed = key._key.private_bytes_raw()
    der = key._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    proof_key = derive_key(code, site=SITE, device=config.device)
    return {
        "the code": str(code).encode(),
        "the code without dashes": str(code).replace("-", "").encode(),
        "its secret": code.secret.encode(),
        "the derived key": proof_key,
        "the derived key in hexadecimal": proof_key.hex().encode(),
        "the private key": seed,
        "the private key in hexadecimal": seed.hex().encode(),
        "the private key as DER": der,
        "the private key as PEM": key.pem.split(b"\n")[1],
    }


def test_a_device_enrols_keeps_its_key_to_itself_and_is_let_in_by_the_fleets_broker(
    town: Town,
) -> None:
    config = town.client("cam-10")
    with town.open():
        settled = town.enrol(town.code("cam-10"), config)
    files = files_of(config)
    assert mode(files.device) == 0o600
    assert mode(files.device.parent) == 0o700
    assert not files.pending.exists()
    assert files.gateway_keys() == (town.fleet.authority.gateway_public,)
    assert files.read_home() == settled.home
    assert settled.home.port == config.broker.port
    assert abs(settled.home.now_ms - to_ms(utc_now())) < 60_000
    path = add_role(town.fleet, GATEWAY, utc_now())
    broker = start_mosquitto(town.fleet.broker, "", town.fleet.config.broker.port)
    device = MqttTransport(config.broker, client_id="cam-10")
    try:
        device.subscribe(Topics(SITE).round)
        device.start()
        with Visit(
            town.fleet.config.broker.near, context_for(town.fleet.authority, of(path))
        ) as it:
            it.publish(Topics(SITE).round, b"an offer", retain=True)
        assert payload_of(device) == b"an offer"
    finally:
        device.close()
        broker.stop()


def payload_of(transport: MqttTransport) -> bytes:
    """The first that comes."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        if isinstance(event := transport.receive(0.5), Received):
            return event.payload
    pytest.fail("nothing came")


def of(path: Path) -> Pass:
    return Pass(certificate=read_certificate(path), key=read_service_key(path))


def strangers_context(town: Town) -> ssl.SSLContext:
    """What somebody has who knows the authority and nothing else."""
    return open_context(TlsConfig(ca=town.fleet.enrolment.authority), now_s=time.time())


@pytest.mark.parametrize("plain", [False, True])
def test_nothing_secret_is_on_the_wire_not_even_for_the_broker(town: Town, plain: bool) -> None:
    name = f"cam-2{int(plain)}"
    config, code = town.client(name), town.code(name)
    port = town.fleet.config.enrolment.port
    relay = Relay(port, town.fleet.enrolment.identity if plain else None)
    try:
        with town.open():
            town.enrol(code, config, desk=Desk(host="localhost", port=relay.port))
            renew(config, say=lambda what: None)
    finally:
        relay.close()
    assert (name.encode() in relay.seen) is plain  # what a broker sees, he has seen
    assert (CLAIMS.encode() in relay.seen) is plain
    assert len(relay.seen) > 3000
    for what, secret in secrets_of(config, code).items():
        assert secret not in relay.seen, what
        for path in town.fleet.folder.rglob("*"):
            if path.is_file() and what != "the derived key":
                assert secret not in path.read_bytes(), (what, path)


def test_a_code_of_a_relay_is_no_use_to_him(town: Town) -> None:
    """He sees the request of a device, and sends it himself: he gets what is the device's."""
    config, code = town.client("cam-11"), town.code("cam-11")
    with town.open():
        first = town.enrol(code, config)
        thief = town.client("cam-11", "thief")
        with pytest.raises(RefusedError, match="used"):
            town.enrol(code, thief)
    assert "the code was used before, for another key" in town.reasons
    assert not files_of(thief).device.exists()
    assert present(files_of(config))[0] == first.certificate


def test_an_expired_code_is_refused_and_noted(town: Town) -> None:
    code = town.code("cam-12")
    with town.fleet.store.writing() as db:
        token = tokens.find(db, code.code_id)
        assert token is not None
        tokens.remove(db, code.code_id)
        past = {name: getattr(token, name) for name in tokens.Token.__slots__}
        past["expires_ms"] = to_ms(utc_now()) - 1
        tokens.add(db, tokens.Token(**past))
    with town.open(), pytest.raises(RefusedError, match="identity token cam-12"):
        town.enrol(code, town.client("cam-12"))
    assert town.reasons[-1] == "the code has expired"


def test_another_devices_code_is_refused_and_noted(town: Town) -> None:
    code = town.code("cam-13")
    with town.open():
        with pytest.raises(RefusedError):
            town.enrol(code, town.client("cam-14"))
        assert "or the code of cam-13" in town.reasons[-1]
        town.enrol(code, town.client("cam-13"))


def test_a_guessed_code_is_burnt_and_its_owner_needs_another(town: Town) -> None:
    config, code = town.client("cam-15"), town.code("cam-15")
    with town.open():
        for _ in range(WRONG_PROOFS):
            with pytest.raises(RefusedError):
                town.enrol(mistyped(code), config)
        with pytest.raises(RefusedError):
            town.enrol(code, config)
        assert "burnt" in town.reasons[-1]
        town.enrol(town.code("cam-15"), config)


def test_somebody_in_between_with_an_authority_of_his_own_learns_nothing(
    town: Town, tmp_path: Path
) -> None:
    config, code = town.client("cam-16"), town.code("cam-16")
    impostor = Town(tmp_path)
    try:
        with impostor.open(), pytest.raises(TransportError, match="Nothing was sent"):
            town.enrol(code, config, desk=impostor.desk)
        assert not (impostor.fleet.folder / "events.jsonl").read_text()
    finally:
        impostor.close()
    with town.open():
        town.enrol(code, config)  # the code is as good as before


def test_somebody_in_between_who_shows_the_true_authority_learns_nothing_either(
    town: Town, tmp_path: Path
) -> None:
    config, code = town.client("cam-17"), town.code("cam-17")
    impostor = Town(tmp_path)
    try:
        with impostor.open():
            role = impostor.fleet.role_file(service_module.ROLE)
            address = ("127.0.0.1", impostor.fleet.config.enrolment.service_port)
            shown = of(role)
            with Visit(address, context_for(impostor.fleet.authority, shown)) as visit:
                visit.publish(AUTHORITY_TOPIC, town.fleet.authority.certificate_der, retain=True)
            assert look(impostor.desk).authority == town.fleet.authority.certificate_der
            with pytest.raises(TransportError, match="somebody is in between"):
                town.enrol(code, config, desk=impostor.desk)
        assert not (impostor.fleet.folder / "events.jsonl").read_text()
    finally:
        impostor.close()


def test_a_broker_of_the_fleet_under_another_name_is_refused(town: Town) -> None:
    context = strangers_context(town)
    desk = Desk(host="127.0.0.2", port=town.desk.port)
    with (
        pytest.raises(TransportError, match=r"hosts.*in fleet\.toml"),
        Errand(desk, context, new_request(), AUTHORITY_TOPIC),
    ):
        pass


class LosingAnswers:
    """The service decides, and what it answers is lost, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.lost, self._count = 0, count
        send = service_module.IdentityService._send

        def lose(service: service_module.IdentityService, reply: Any) -> None:  # noqa: ANN401
            if self.lost < self._count:
                self.lost += 1
            else:
                send(service, reply)

        monkeypatch.setattr(service_module.IdentityService, "_send", lose)


def issued(town: Town, device: str) -> int:
    with town.fleet.store.reading() as db:
        return len(certificates.of(db, device))


def test_a_lost_answer_is_asked_for_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = LosingAnswers(monkeypatch, 2)
    said: list[str] = []
    with town.open():
        town.enrol(town.code("cam-18"), town.client("cam-18"), said=said)
    assert losing.lost == 2
    assert said[-2:] == 2 * ["no answer yet: asking again"]
    assert issued(town, "cam-18") == 1


def test_a_device_that_dies_before_its_answer_comes_back_with_the_same_code(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, code = town.client("cam-19"), town.code("cam-19")
    with monkeypatch.context() as patch, town.open():
        LosingAnswers(patch, 1000)
        patch.setattr("edge_client.identity.errand.PATIENCE_S", 0.6)
        with pytest.raises(TransportError, match="has not answered"):
            town.enrol(code, config)
        assert mode(files_of(config).pending) == 0o600
    with town.open():
        town.enrol(code, config)
    assert issued(town, "cam-19") == 1
    assert not files_of(config).pending.exists()


def test_without_the_service_the_message_says_what_to_start(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.identity.errand.CONNECT_S", 0.5)
    town.stop_broker()
    try:
        with pytest.raises(TransportError, match="start `fedsparse identity serve`"):
            town.enrol(parse_code("AAAA-BBBB-CCCC"), town.client("cam-30"))
    finally:
        town.start_broker()
    with pytest.raises(TransportError, match="shows no authority"):
        town.enrol(parse_code("AAAA-BBBB-CCCC"), town.client("cam-30"))


def test_the_service_outlives_its_broker(town: Town) -> None:
    with town.open():
        town.enrol(town.code("cam-31"), town.client("cam-31"))
        town.stop_broker()
        town.start_broker()
        eventually_enrols(town, "cam-32")


def eventually_enrols(town: Town, device: str) -> None:
    code, config = town.code(device), town.client(device)
    for _ in range(20):
        try:
            town.enrol(code, config)
        except TransportError:  # the service is not back yet: the look waits for it
            continue
        return
    pytest.fail("the service does not come back to its broker")


def test_a_stranger_reads_neither_requests_nor_answers_of_others(town: Town) -> None:
    context = strangers_context(town)
    inboxes = []
    with (
        town.open(),
        Errand(town.desk, context, new_request(), f"{CLAIMS}/#") as one,
        Errand(town.desk, context, new_request(), f"{CLAIMS}/res/+") as other,
        Errand(town.desk, context, new_request(), "#") as third,
    ):
        victim = new_request()
        one.publish(request_topic(victim), b"in another's name")
        town.enrol(town.code("cam-33"), town.client("cam-33"))
        for errand in (one, other, third):
            while (payload := errand.receive(0.5)) is not None:
                inboxes.append(payload)
    assert set(inboxes) <= {town.fleet.authority.certificate_der}
    assert not [entry for entry in town.events("enrolment_refused") if "another's" in str(entry)]


def test_a_device_that_has_an_identity_is_not_enrolled_over_it(town: Town) -> None:
    config = town.client("cam-34")
    with town.open():
        town.enrol(town.code("cam-34"), config)
        with pytest.raises(ConfigError, match="edge-client renew"):
            town.enrol(parse_code("AAAA-BBBB-CCCC"), config)


def test_a_device_renews_and_has_the_new_key_only_when_it_has_the_certificate(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town.client("cam-35")
    with town.open():
        first = town.enrol(town.code("cam-35"), config)
        before = files_of(config).device.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("edge_client.identity.errand.PATIENCE_S", 0.6)
            LosingAnswers(patch, 1000)
            with pytest.raises(TransportError, match="has not answered"):
                renew(config, say=lambda what: None)
        assert files_of(config).device.read_bytes() == before
    with town.open():
        second = renew(config, say=lambda what: None)
    assert second.certificate.public_key() != first.certificate.public_key()
    assert present(files_of(config))[0] == second.certificate
    assert mode(files_of(config).device) == 0o600
    assert issued(town, "cam-35") == 2  # the lost answer was given again


def test_the_agents_look_at_the_dates_leads_to_a_new_certificate(town: Town) -> None:
    config = town.client("cam-39")
    with town.open():
        town.enrol(town.code("cam-39"), config)
        make_older(town, config, timedelta(days=70))
        renewal = Renewal(town.folder / "cam-39" / "client.toml", config)
        try:
            before = present(files_of(config))[0]
            renewal.tick()
            end_s = time.monotonic() + 60
            while present(files_of(config))[0] == before and time.monotonic() < end_s:
                time.sleep(0.05)
        finally:
            renewal.close()
    after = present(files_of(config))[0]
    assert after.not_valid_after_utc - before.not_valid_after_utc > timedelta(days=69)


def make_older(town: Town, config: ClientConfig, age: timedelta) -> None:
    """The device's key has a certificate that was issued so long ago."""
    files = files_of(config)
    _, key = present(files)
    request = x509.load_der_x509_csr(key.request("x"))
    then = utc_now() - age
    older = town.fleet.authority.issue_device(config.device, request, then)
    with town.fleet.store.writing() as db:
        certificates.revoke(db, config.device, reason="test", now_ms=to_ms(utc_now()))
        note(db, older, then)
    files.device.write_bytes(pem_of(older) + key.pem)


def test_a_revoked_device_cannot_renew_and_comes_back_only_with_a_new_code(town: Town) -> None:
    config = town.client("cam-36")
    with town.open():
        town.enrol(town.code("cam-36"), config)
        revoke_device(town.fleet, "cam-36", "stolen", utc_now())
        with pytest.raises(RefusedError, match="revoked or has expired"):
            renew(config, say=lambda what: None)
        assert "no certificate that is good" in town.reasons[-1]
        assert "user cam-36" in town.fleet.broker.acl.read_text()
        files_of(config).device.unlink()
        town.enrol(town.code("cam-36"), config)
        assert "user cam-36" not in town.fleet.broker.acl.read_text()
    with town.fleet.store.reading() as db:
        device = devices.find(db, "cam-36")
    assert device is not None
    assert device.state is devices.State.ENROLLED


def test_the_answer_of_another_gateway_to_a_renewal_is_not_believed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town.client("cam-37")
    with town.open():
        town.enrol(town.code("cam-37"), config)
        files_of(config).gateway.write_text(f"{public_key(town, 'cam-37')}\n")
        monkeypatch.setattr("edge_client.identity.errand.PATIENCE_S", 1.0)
        with pytest.raises(TransportError, match="was not the gateway's"):
            renew(config, say=lambda what: None)


def public_key(town: Town, device: str) -> str:
    with town.fleet.store.reading() as db:
        found = devices.find(db, device)
    assert found is not None
    assert found.public_key is not None
    return found.public_key.hex()


def test_a_board_whose_clock_is_behind_the_brokers_certificate_enrols_all_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_client.identity.enrol.time.time", lambda: 1_500_000_000.0)
    with town.open(), caplog.at_level("WARNING"):
        town.enrol(town.code("cam-38"), town.client("cam-38"))
    assert "clock=behind" in caplog.text


def lies(town: Town, folder: Path) -> dict[str, Any]:
    """What somebody could change in a yes, and whether he would know the code for it."""
    other = Authority.create(folder / "other", SITE, utc_now())
    key = Ed25519PrivateKey.generate().public_key()
    theirs = town.fleet.authority.issue_device("cam-50", key, utc_now())
    return {
        "its proof is wrong": (b"x" * 32, {}),
        "names another authority": (b"", {"authority": other.certificate_der}),
        "for another key": (b"", {"certificate": theirs.public_bytes(Encoding.DER)}),
    }


@pytest.mark.parametrize(
    "lie", ["its proof is wrong", "names another authority", "for another key"]
)
def test_a_yes_that_is_not_the_gateways_is_not_believed(
    town: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lie: str
) -> None:
    secret, changes = lies(town, tmp_path)[lie]
    config, code = town.client("cam-50"), town.code("cam-50")
    key = secret or derive_key(code, site=SITE, device="cam-50")
    send = service_module.IdentityService._send

    def tell(service: service_module.IdentityService, reply: Reply) -> None:
        answer = decode_claim(reply.topic, reply.payload).message
        assert isinstance(answer, Answer)
        bent = encode_proved(reply.topic, replace(answer, **changes), key)
        send(service, replace(reply, payload=bent))

    monkeypatch.setattr(service_module.IdentityService, "_send", tell)
    monkeypatch.setattr("edge_client.identity.errand.PATIENCE_S", 1.0)
    with town.open(), pytest.raises(TransportError, match=f"was not the gateway's.*{lie}"):
        town.enrol(code, config)
    assert not files_of(config).device.exists()
    with town.fleet.store.writing() as db:
        certificates.revoke(db, "cam-50", reason="test", now_ms=to_ms(utc_now()))
