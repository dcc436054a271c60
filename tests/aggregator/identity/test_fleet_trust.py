"""Whose updates a job of a fleet takes: those of devices that are let in, as the store has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import note
from aggregator.identity.joining import FleetTrust, trust_in_fleet
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.signatures import KeySigner
from aggregator.store import certificates, devices
from fedsparse.errors import RemoteProtocolError, StoreError
from fedsparse.wire.frame import decode_frame
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Receipt, Stage, Update, Verdict
from fedsparse.wire.signing import Signed, Trusted, signed

NOW = utc_now()
TOPIC = "fl/v1/plant/up/cam-01/message"
UPDATE = Update(
    job="job", round_id=1, stage=Stage.EVALUATE, level=0.1, num_examples=9,
    mask_digest="0" * 64, parts=(),
)  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.create(tmp_path / "fleet", "plant", ["localhost"], NOW) as made:
        yield made


def let_in(fleet: Fleet, device: str = "cam-01", now: datetime = NOW) -> KeySigner:
    """A certificate of its own, beside those that it has."""
    key = Ed25519PrivateKey.generate()
    certificate = fleet.authority.issue_device(device, key.public_key(), now)
    with fleet.store.writing() as db:
        if not certificates.of(db, device):
            devices.enrol(db, device, key.public_key().public_bytes_raw(), to_ms(now))
        note(db, certificate, now)
    return KeySigner(key)


def check(trust: FleetTrust, message: Signed, device: str = "cam-01", topic: str = TOPIC) -> None:
    trust.trust.check(device, topic, decode_frame(encode_message(message)))


def test_who_is_let_in_is_believed_and_nobody_else(fleet: Fleet) -> None:
    trust, key, other = FleetTrust(fleet), let_in(fleet), let_in(fleet, "cam-02")
    check(trust, signed(UPDATE, TOPIC, "", key))
    with pytest.raises(RemoteProtocolError, match="unknown key"):
        check(trust, signed(UPDATE, TOPIC, "", other))
    with pytest.raises(RemoteProtocolError, match="not signed"):
        check(trust, UPDATE)
    for name in ("cam-03", "", "_gateway.job"):
        with pytest.raises(RemoteProtocolError, match="nobody of this name"):
            check(trust, signed(UPDATE, TOPIC, "", key), name)


def test_who_is_thrown_out_is_not_believed_from_then_on(fleet: Fleet) -> None:
    trust, key = FleetTrust(fleet), let_in(fleet)
    message = signed(UPDATE, TOPIC, "", key)
    check(trust, message)
    with fleet.store.writing() as db:
        certificates.revoke(db, "cam-01", reason="stolen", now_ms=to_ms(NOW))
    with pytest.raises(RemoteProtocolError, match="nobody of this name"):
        check(trust, message)


def test_old_and_new_key_count_until_the_old_certificate_ends(fleet: Fleet) -> None:
    moment = NOW
    trust, old = FleetTrust(fleet, lambda: moment.timestamp()), let_in(fleet)
    check(trust, signed(UPDATE, TOPIC, "", old))
    new = let_in(fleet, now=NOW + timedelta(days=60))
    for key in (old, new):
        check(trust, signed(UPDATE, TOPIC, "", key))
    moment = NOW + timedelta(days=91)
    check(trust, signed(UPDATE, TOPIC, "", new))
    with pytest.raises(RemoteProtocolError, match="unknown key"):
        check(trust, signed(UPDATE, TOPIC, "", old))


def test_a_store_that_cannot_be_read_costs_the_message_and_not_the_aggregator(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust, key = FleetTrust(fleet), let_in(fleet)
    message = signed(UPDATE, TOPIC, "", key)

    def broken(*_: object) -> None:
        raise StoreError("the store is locked")

    with monkeypatch.context() as patch:
        patch.setattr(certificates, "live", broken)
        with pytest.raises(RemoteProtocolError, match="the store is locked"):
            check(trust, message)
    check(trust, message)


def test_the_fleets_own_key_signs_for_the_gateway(fleet: Fleet) -> None:
    receipt = Receipt(job="job", round_id=1, update_digest="0" * 64, verdict=Verdict.ACCEPTED)
    with trust_in_fleet(fleet.folder) as trust:
        assert trust.signer is not None
        frame = decode_frame(encode_message(signed(receipt, TOPIC, "", trust.signer)))
    Trusted([fleet.authority.gateway_key.public_key().public_bytes_raw()]).check_frame(TOPIC, frame)
