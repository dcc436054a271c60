"""Who gets a certificate and who does not; refusals read alike, and are noted with the reason."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from enrolment_world import (
    DAY_MS,
    REQUEST,
    SITE,
    EnrolmentWorld,
    csr_of,
    key_for,
    key_of,
    make_fleet,
    name_of,
    raw,
)

from aggregator.identity.enrolling import GUESS_EVERY_S, GUESSES, LINES, LIVE_CERTIFICATES
from aggregator.identity.signatures import trusted
from aggregator.identity.tokens import WRONG_PROOFS, Refusal
from aggregator.store import certificates, devices, tokens
from aggregator.store.devices import State
from fedsparse.errors import ConfigError, StoreError
from fedsparse.wire.enrolment import (
    Answer,
    Enrol,
    Outcome,
    answer_topic,
    encode_plain,
    request_topic,
)
from fedsparse.wire.enrolment_code import Code, parse_code
from fedsparse.wire.frame import encode_frame


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    make_fleet(folder)
    return folder


@pytest.fixture
def world(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EnrolmentWorld]:
    monkeypatch.setattr(
        "aggregator.identity.tokens.derive_key",
        lambda code, *, site, device: key_for(code, site, device),
    )
    shutil.copytree(fresh, tmp_path, dirs_exist_ok=True)
    made = EnrolmentWorld(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def other_secret(code: Code) -> Code:
    """The code with its last character mistyped."""
    last = "0" if code.secret[-1] != "0" else "1"
    return parse_code(code.code_id + code.secret[:-1] + last)


def assert_refused(world: EnrolmentWorld, frame: tuple[str, bytes], reason: str) -> None:
    before = len(world.notes.of("enrolment_refused"))
    reply = world.desk.answer(*frame, now_ms=world.now_ms, now_s=world.now_s)
    assert reply is not None
    assert reply.payload == encode_plain(Answer(outcome=Outcome.REFUSED))  # nothing more
    assert len(world.notes.of("enrolment_refused")) == before + 1
    assert reason in world.notes.reason


def test_a_code_lets_its_device_in(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code()
    claim = world.ask(world.enrol_frame(code, key))
    assert claim.is_proved_by(key_for(code, SITE, "cam-01"))
    answer = claim.message
    assert isinstance(answer, Answer)
    assert key_of(answer.certificate) == raw(key)
    assert name_of(answer.certificate) == "CN=cam-01"
    assert answer.authority == world.authority.certificate_der
    assert answer.gateway_key == world.authority.gateway_public
    assert (answer.host, answer.port, answer.now_ms) == ("gateway.local", 8883, world.now_ms)
    certificate = x509.load_der_x509_certificate(answer.certificate)
    certificate.verify_directly_issued_by(world.authority.certificate)
    with world.store.reading() as db:
        (kept,) = certificates.live(db, world.now_ms, "cam-01")
        device = devices.find(db, "cam-01")
    assert kept.certificate == answer.certificate
    assert device is not None
    assert (device.state, device.public_key) == (State.ENROLLED, raw(key))
    assert world.notes.of("device_enrolled") == [
        {"device": "cam-01", "serial": f"{certificate.serial_number:x}", "again": False}
    ]


def test_neither_the_store_nor_the_diary_knows_the_code(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    code = world.code()
    world.ask(world.enrol_frame(other_secret(code), key))
    world.ask(world.enrol_frame(code, key))
    for path in world.folder.glob("fleet.db*"):
        assert code.secret.encode() not in path.read_bytes()
    assert code.secret not in repr(world.notes.entries)


def test_a_lost_answer_is_given_again_to_the_same_request(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    frame = world.enrol_frame(world.code(), key)
    first = world.answer(frame)
    world.desk = world.new_desk()
    world.now_ms += 2 * DAY_MS  # longer than the code was good
    again = world.answer(frame)
    assert again.certificate == first.certificate
    assert [entry["again"] for entry in world.notes.of("device_enrolled")] == [False, True]
    with world.store.reading() as db:
        assert len(certificates.of(db, "cam-01")) == 1


def test_a_used_code_lets_nobody_else_in(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code()
    world.ask(world.enrol_frame(code, key))
    thief = Ed25519PrivateKey.generate()
    assert_refused(world, world.enrol_frame(code, thief), "used before, for another key")
    with world.store.reading() as db:
        assert len(certificates.of(db, "cam-01")) == 1


def test_a_used_code_whose_certificate_was_revoked_gives_it_no_more(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    frame = world.enrol_frame(world.code(), key)
    world.answer(frame)
    with world.store.writing() as db:
        certificates.revoke(db, "cam-01", reason="stolen", now_ms=world.now_ms)
    assert_refused(world, frame, "its certificate is good no longer")


def test_an_expired_code_is_refused(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code(hours=1)
    world.now_ms += 3600 * 1000 - 1
    early = world.code("cam-02", hours=1)
    world.now_ms += 1
    assert_refused(world, world.enrol_frame(code, key), "expired")
    assert world.answer(world.enrol_frame(early, key, "cam-02")).certificate


def test_another_devices_code_is_refused(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code("cam-02")
    assert_refused(world, world.enrol_frame(code, key, "cam-01"), "or the code of cam-02")
    assert world.answer(world.enrol_frame(code, key, "cam-02")).certificate


def test_a_code_of_another_site_is_refused(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code()
    assert_refused(world, world.enrol_frame(code, key, site="other"), "the site other")


def test_a_code_that_never_was_is_refused(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    world.code()
    never = parse_code("ZZZZ-ZZZZ-ZZZZ")
    assert_refused(world, world.enrol_frame(never, key), "no such code")


def test_a_new_code_makes_the_unused_ones_of_its_device_void(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    other, old, new = world.code("cam-02"), world.code(), world.code()
    assert_refused(world, world.enrol_frame(old, key), "no such code")
    assert world.answer(world.enrol_frame(new, key)).certificate
    assert world.answer(world.enrol_frame(other, key, "cam-02")).certificate


def test_wrong_proofs_burn_a_code_for_good(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code()
    for count in range(1, WRONG_PROOFS + 1):
        world.desk = world.new_desk()  # a restart forgives nothing
        frame = world.enrol_frame(other_secret(code), key)
        assert_refused(world, frame, f"{count} of {WRONG_PROOFS}")
    assert_refused(world, world.enrol_frame(code, key), "burnt")


def test_one_typing_mistake_burns_nothing(world: EnrolmentWorld, key: Ed25519PrivateKey) -> None:
    code = world.code()
    for _ in range(WRONG_PROOFS - 1):
        assert_refused(world, world.enrol_frame(other_secret(code), key), "wrong proof")
    assert world.answer(world.enrol_frame(code, key)).certificate


def test_who_guesses_too_fast_makes_everybody_wait_and_burns_no_more_codes(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    names = [f"cam-{number:02}" for number in range(GUESSES)]
    codes = {name: world.code(name) for name in names}
    for name, code in codes.items():
        assert_refused(world, world.enrol_frame(other_secret(code), key, name), "wrong proof")
    for code in (other_secret(codes["cam-00"]), codes["cam-00"], parse_code("ZZZZ-ZZZZ-ZZZZ")):
        answer = world.answer(world.enrol_frame(code, key, "cam-00"))
        assert answer == Answer(outcome=Outcome.RETRY)
        assert "too many wrong proofs" in world.notes.reason
    with world.store.reading() as db:
        assert [token.wrong_proofs for token in tokens.everyone(db)] == GUESSES * [1]
    world.now_s += GUESS_EVERY_S
    assert world.answer(world.enrol_frame(codes["cam-00"], key, "cam-00")).certificate


def test_nonsense_does_not_keep_others_waiting(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    code = world.code()
    for _ in range(3 * GUESSES):
        world.ask(world.enrol_frame(parse_code("ZZZZ-ZZZZ-ZZZZ"), key))
        assert world.desk.answer(request_topic(REQUEST), b"x", now_ms=1, now_s=1.0) is None
    assert world.answer(world.enrol_frame(code, key)).certificate


def test_a_device_that_trusts_another_authority_is_refused(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    code = world.code()
    frame = world.enrol_frame(code, key, authority=32 * b"m")
    assert_refused(world, frame, "another authority")
    assert world.answer(world.enrol_frame(code, key)).certificate


def test_a_device_that_is_in_gets_no_second_code(world: EnrolmentWorld) -> None:
    world.enrolled()
    with pytest.raises(ConfigError, match="identity revoke cam-01"):
        world.code()
    world.now_ms += 91 * DAY_MS  # its certificate has expired
    world.code()


def test_a_device_that_got_in_meanwhile_is_not_enrolled_twice(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    code = world.code()
    with world.store.writing() as db:
        token = tokens.find(db, code.code_id)
        assert token is not None
        tokens.remove(db, token.id)
    world.enrolled()
    with world.store.writing() as db:
        tokens.add(db, token)
    assert_refused(world, world.enrol_frame(code, key), "has a certificate already")


def test_a_revoked_device_comes_back_with_a_new_code_and_the_reply_says_so(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    first = world.desk.answer(
        *world.enrol_frame(world.code(), key), now_ms=world.now_ms, now_s=world.now_s
    )
    with world.store.writing() as db:
        certificates.revoke(db, "cam-01", reason="lost", now_ms=world.now_ms)
        devices.revoke(db, "cam-01")
    frame = world.enrol_frame(world.code(), Ed25519PrivateKey.generate())
    second = world.desk.answer(*frame, now_ms=world.now_ms, now_s=world.now_s)
    assert first is not None
    assert second is not None
    assert (first.returned, second.returned) == (False, True)


@pytest.mark.parametrize("device", ["", "a/b", "_gateway.watch", "cam 1", 65 * "a"])
def test_no_code_is_made_for_a_name_that_no_device_can_have(
    world: EnrolmentWorld, device: str
) -> None:
    with pytest.raises(ConfigError, match="name"):
        world.code(device)


@pytest.mark.parametrize("hours", [0, -1, 24 * 30 + 1])
def test_a_code_is_good_for_a_bounded_time(world: EnrolmentWorld, hours: float) -> None:
    with pytest.raises(ConfigError, match="hours"):
        world.code(hours=hours)


def ec_request() -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(
        Encoding.DER
    )


def test_a_certificate_request_that_is_none_is_refused_and_the_code_stays_good(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    code = world.code()
    good = csr_of(key)
    unsigned = good[:-1] + bytes([good[-1] ^ 1])
    for csr in (b"\x30\x00", b"junk", unsigned, ec_request(), good[:-3], good + b"\0"):
        assert_refused(world, world.enrol_frame(code, key, csr=csr), "bad certificate request")
    assert world.answer(world.enrol_frame(code, key)).certificate


def test_mutated_certificate_requests_raise_nothing(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    rng, good, outcomes = random.Random(5), csr_of(key), set()
    for _ in range(400):
        bent = bytearray(good)
        for _ in range(rng.choice((0, 1, 2, 5))):
            bent[rng.randrange(len(bent))] = rng.randrange(256)
        message = Enrol(
            site=SITE, device="cam-01", code_id="AAAA", csr=bytes(bent), authority=world.digest
        )
        with world.store.writing() as db:
            outcomes.add(type(world.desk._issue(db, message, world.now_ms)))
    assert outcomes == {Refusal, tuple}


def test_what_the_request_says_of_itself_does_not_count(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "_gateway.watch")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
        .public_bytes(Encoding.DER)
    )
    certificate = world.answer(world.enrol_frame(world.code(), key, csr=csr)).certificate
    assert name_of(certificate) == "CN=cam-01"
    constraints = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert constraints.value.ca is False


def test_a_proof_for_another_request_is_refused(
    world: EnrolmentWorld, key: Ed25519PrivateKey
) -> None:
    _, payload = world.enrol_frame(world.code(), key)
    assert_refused(world, (request_topic(32 * "b"), payload), "wrong proof")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (request_topic(REQUEST), b""),
        (request_topic(REQUEST), 9000 * b"x"),
        (answer_topic(REQUEST), encode_frame(33, {})),
        ("fl/v1/plant/up/cam-01/message", encode_frame(33, {})),
        (request_topic(REQUEST), encode_plain(Answer(outcome=Outcome.REFUSED))),
    ],
)
def test_what_is_no_request_is_noted_and_not_answered(
    world: EnrolmentWorld, topic: str, payload: bytes
) -> None:
    assert world.desk.answer(topic, payload, now_ms=world.now_ms, now_s=world.now_s) is None
    assert world.notes.of("enrolment_refused")[0]["device"] == "malformed"


def test_a_flood_of_nonsense_does_not_fill_the_diary(world: EnrolmentWorld) -> None:
    for _ in range(LINES + 500):
        world.desk.answer(request_topic(REQUEST), b"x", now_ms=world.now_ms, now_s=world.now_s)
    assert len(world.notes.entries) == LINES
    world.desk.answer(request_topic(REQUEST), b"x", now_ms=world.now_ms, now_s=world.now_s + 100)
    assert world.notes.entries[-1][1]["unwritten"] == 500


def test_a_device_renews_its_certificate_with_a_new_key(world: EnrolmentWorld) -> None:
    old, first = world.enrolled()
    new = Ed25519PrivateKey.generate()
    world.now_ms += 60 * DAY_MS
    claim = world.ask(world.renew_frame(old, new))
    claim.check_signature(trusted([world.authority.gateway_public]))
    answer = claim.message
    assert isinstance(answer, Answer)
    assert key_of(answer.certificate) == raw(new)
    assert name_of(answer.certificate) == "CN=cam-01"
    with world.store.reading() as db:
        live = certificates.live(db, world.now_ms, "cam-01")
        device = devices.find(db, "cam-01")
    assert [one.certificate for one in live] == [first, answer.certificate]  # until the switch
    assert device is not None
    assert device.public_key == raw(new)


def test_the_lost_answer_to_a_renewal_is_given_again(world: EnrolmentWorld) -> None:
    old, _ = world.enrolled()
    new = Ed25519PrivateKey.generate()
    first = world.answer(world.renew_frame(old, new))
    assert world.answer(world.renew_frame(old, new)).certificate == first.certificate
    assert world.answer(world.renew_frame(new, new)).certificate == first.certificate


def test_nobody_renews_for_another_device(world: EnrolmentWorld) -> None:
    world.enrolled()
    thief, _ = world.enrolled("cam-02")
    new = Ed25519PrivateKey.generate()
    assert_refused(world, world.renew_frame(thief, new, "cam-01"), "not signed by the device")
    assert_refused(world, world.renew_frame(new, new, "cam-01"), "not signed by the device")
    assert_refused(world, world.renew_frame(thief, new, "cam-03"), "no certificate that is good")
    assert_refused(world, world.renew_frame(thief, new, "cam-02", site="other"), "the site other")


def test_a_revoked_or_expired_certificate_is_not_renewed(world: EnrolmentWorld) -> None:
    old, _ = world.enrolled()
    frame = world.renew_frame(old, Ed25519PrivateKey.generate())
    with world.store.writing() as db:
        certificates.revoke(db, "cam-01", reason="stolen", now_ms=world.now_ms)
    assert_refused(world, frame, "no certificate that is good")
    late, _ = world.enrolled("cam-02")
    world.now_ms += 91 * DAY_MS
    frame = world.renew_frame(late, Ed25519PrivateKey.generate(), "cam-02")
    assert_refused(world, frame, "no certificate that is good")


def test_a_device_cannot_collect_certificates(world: EnrolmentWorld) -> None:
    key, _ = world.enrolled()
    for _ in range(LIVE_CERTIFICATES - 1):
        new = Ed25519PrivateKey.generate()
        assert world.answer(world.renew_frame(key, new)).certificate
        key = new
    frame = world.renew_frame(key, Ed25519PrivateKey.generate())
    assert_refused(world, frame, f"{LIVE_CERTIFICATES} certificates")


def test_a_store_that_cannot_be_written_grants_nothing(
    world: EnrolmentWorld, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = world.enrol_frame(world.code(), key)

    def full(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401
        raise StoreError("full")

    with monkeypatch.context() as patch:
        patch.setattr(tokens, "use", full)
        with pytest.raises(StoreError):
            world.answer(frame)
    with world.store.reading() as db:
        assert certificates.of(db, "cam-01") == []
    assert world.answer(frame).certificate


def test_of_two_at_the_same_moment_one_gets_the_certificate(
    world: EnrolmentWorld, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = world.enrol_frame(world.code(), key)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "use", lambda *args, **kwargs: False)
        with pytest.raises(StoreError, match="same moment"):
            world.answer(frame)
    with world.store.reading() as db:
        assert certificates.of(db, "cam-01") == []
