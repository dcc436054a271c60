"""Devices, tokens, certificates, revocation lists and strikes, in both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert

from aggregator.store import certificates, crls, devices, schema, strikes, tokens
from aggregator.store.certificates import Certificate
from aggregator.store.crls import Crl
from aggregator.store.database import Store, open_store
from aggregator.store.devices import Device, State
from aggregator.store.strikes import Quarantine, Strike
from aggregator.store.tokens import Token
from fedsparse.errors import StoreError

NOW = 1_800_000_000_000  # beyond 32 bits

TOKEN = Token(id="ABCD", device="cam-1", key=b"\0k" * 16, made_ms=NOW, expires_ms=NOW + 5)
CERTIFICATE = Certificate(
    serial="f" * 40,
    device="cam-1",
    certificate=b"\x30\x82",
    public_key=b"\0key",
    not_before_ms=NOW - 10,
    not_after_ms=NOW + 10,
    issued_ms=NOW,
)


def test_a_device_that_spoke_is_known_from_then_on(store: Store) -> None:
    with store.writing() as db:
        devices.seen(db, {"cam-2": "", "cam-1": "rpi-5"}, NOW)
    with store.writing() as db:
        devices.seen(db, {"cam-1": ""}, NOW + 7)
    with store.reading() as db:
        first, second = devices.everyone(db)
        assert devices.find(db, "cam-3") is None
    assert first == Device(
        name="cam-1",
        board="rpi-5",
        state=State.KNOWN,
        added_ms=NOW,
        last_seen_ms=NOW + 7,
        max_examples=None,
        public_key=None,
    )
    assert (second.name, second.board, second.last_seen_ms) == ("cam-2", "", NOW)


def test_a_device_keeps_what_is_known_of_it_through_enrolment_and_revocation(store: Store) -> None:
    with store.writing() as db:
        devices.enrol(db, "cam-1", b"\0public", NOW)
        devices.seen(db, {"cam-1": "rpi-5"}, NOW + 1)
        assert devices.cap_examples(db, "cam-1", 2**40)
        assert not devices.cap_examples(db, "cam-9", 1)
        assert not devices.revoke(db, "cam-9")
        enrolled = devices.find(db, "cam-1")
    assert enrolled is not None
    assert (enrolled.state, enrolled.public_key) == (State.ENROLLED, b"\0public")
    assert (enrolled.board, enrolled.max_examples, enrolled.added_ms) == ("rpi-5", 2**40, NOW)
    with store.writing() as db:
        assert devices.revoke(db, "cam-1")
        assert devices.find(db, "cam-1") == replace(enrolled, state=State.REVOKED, public_key=None)


def test_a_token_lets_one_request_in(store: Store) -> None:
    with store.writing() as db:
        tokens.add(db, TOKEN)
        assert tokens.use(db, "ABCD", csr_digest=b"one", serial="1", now_ms=NOW + 1)
        assert not tokens.use(db, "ABCD", csr_digest=b"two", serial="2", now_ms=NOW + 2)
        assert not tokens.use(db, "none", csr_digest=b"two", serial="2", now_ms=NOW + 2)
    with store.reading() as db:
        used = replace(TOKEN, used_ms=NOW + 1, csr_digest=b"one", serial="1")
        assert tokens.find(db, "ABCD") == used
        assert tokens.find(db, "none") is None


def test_wrong_proofs_are_counted(store: Store) -> None:
    with store.writing() as db:
        tokens.add(db, TOKEN)
        assert [tokens.count_wrong_proof(db, "ABCD") for _ in range(3)] == [1, 2, 3]
        assert tokens.count_wrong_proof(db, "none") == 0


def test_tokens_are_listed_and_forgotten(store: Store) -> None:
    later = replace(TOKEN, id="AAAA", made_ms=NOW + 1, expires_ms=NOW + 100)
    with store.writing() as db:
        tokens.add(db, later)
        tokens.add(db, TOKEN)
        assert tokens.everyone(db) == [TOKEN, later]
        assert tokens.remove_expired(db, NOW + 50) == 1
        assert tokens.everyone(db) == [later]
        assert tokens.remove(db, "AAAA")
        assert not tokens.remove(db, "AAAA")


def test_a_certificate_is_live_until_it_expires_or_is_revoked(store: Store) -> None:
    older = replace(CERTIFICATE, serial="0a", issued_ms=NOW - 5)
    foreign = replace(CERTIFICATE, serial="0b", device="cam-2")
    with store.writing() as db:
        for one in (CERTIFICATE, older, foreign):
            certificates.add(db, one)
        assert certificates.of(db, "cam-1") == [older, CERTIFICATE]
        assert certificates.live(db, NOW) == [older, foreign, CERTIFICATE]
        assert certificates.live(db, NOW + 10) == []
        assert certificates.revoke(db, "cam-1", reason="stolen", now_ms=NOW + 1, serial="0a") == 1
        assert certificates.live(db, NOW, "cam-1") == [CERTIFICATE]
        assert certificates.revoke(db, "cam-1", reason="superseded", now_ms=NOW + 2) == 1
        assert certificates.revoke(db, "cam-1", reason="superseded", now_ms=NOW + 3) == 0
    with store.reading() as db:
        gone = [replace(older, revoked_ms=NOW + 1, reason="stolen"),
                replace(CERTIFICATE, revoked_ms=NOW + 2, reason="superseded")]  # fmt: skip
        assert certificates.revoked(db, NOW) == gone
        assert certificates.revoked(db, NOW + 10) == []
        assert certificates.find(db, "0b") == foreign
        assert certificates.find(db, "0c") is None


def test_the_latest_revocation_list_is_that_of_the_highest_number(store: Store) -> None:
    lists = [Crl(number=n, this_update_ms=NOW - n, next_update_ms=NOW + n) for n in (1, 2, 10)]
    with store.writing() as db:
        assert crls.latest(db) is None
        for one in lists:
            crls.add(db, one)
    with store.reading() as db:
        assert crls.latest(db) == lists[-1]


def job(store: Store) -> int:
    row = {"run": b"r" * 16, "name": "j", "method": "m", "plan_digest": "d", "started_ms": NOW}
    with store.writing() as db:
        key = db.execute(insert(schema.jobs).values(row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def test_strikes_are_counted_from_a_round_on(store: Store) -> None:
    job_id = job(store)

    def strike(device: str, round_id: int) -> Strike:
        return Strike(
            device=device, job_id=job_id, round_id=round_id, kind="norm", reason="why", at_ms=NOW
        )

    with store.writing() as db:
        for one in (strike("a", 1), strike("a", 4), strike("b", 4), strike("a", 5)):
            strikes.add(db, one)
        assert strikes.count(db, job_id, since_round=4) == {"a": 2, "b": 1}
        assert strikes.count(db, job_id, since_round=4, since_ms=NOW + 1) == {}
        assert strikes.count(db, job_id + 1, since_round=0) == {}
        assert strikes.of(db, "a") == [strike("a", 1), strike("a", 4), strike("a", 5)]


def test_a_quarantine_ends_by_itself_or_by_hand(store: Store) -> None:
    first = Quarantine(device="a", since_ms=NOW, until_ms=NOW + 10, reason="norm")
    longer = replace(first, until_ms=NOW + 20)
    other = replace(first, device="b")
    with store.writing() as db:
        for one in (longer, first, other):
            strikes.quarantine(db, one)
        assert strikes.quarantined(db, NOW) == {"a": longer, "b": other}
        assert strikes.quarantined(db, NOW - 1) == {}
        assert strikes.quarantined(db, NOW + 10) == {"a": longer}
        assert strikes.lift(db, "a", NOW + 1)
        assert not strikes.lift(db, "a", NOW + 1)
        assert strikes.quarantined(db, NOW + 2) == {"b": other}


def test_a_strike_of_no_job_is_refused(store: Store) -> None:
    nobody = Strike(device="a", job_id=99, round_id=1, kind="k", reason="r", at_ms=NOW)
    with pytest.raises(StoreError), store.writing() as db:
        strikes.add(db, nobody)


def test_nothing_stays_of_a_transaction_that_fails(store: Store) -> None:
    def twice(store: Store) -> None:
        with store.writing() as db:
            tokens.add(db, TOKEN)
            tokens.add(db, TOKEN)

    with pytest.raises(StoreError):
        twice(store)
    with store.reading() as db:
        assert tokens.everyone(db) == []


def test_what_was_written_is_there_when_the_store_is_opened_again(where: str) -> None:
    with open_store(where) as first, first.writing() as db:
        tokens.add(db, TOKEN)
    with open_store(where) as second, second.reading() as db:
        assert tokens.everyone(db) == [TOKEN]
