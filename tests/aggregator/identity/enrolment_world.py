"""A gateway that enrols devices, and devices that ask, without a broker between them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from aggregator.identity.authority import Authority
from aggregator.identity.enrolling import EnrolmentDesk, Place
from aggregator.identity.signatures import KeySigner
from aggregator.identity.tokens import make_code
from aggregator.store.database import Store, open_store
from fedsparse.wire.enrolment import (
    Answer,
    Claim,
    Enrol,
    Renew,
    answer_topic,
    decode_claim,
    encode_proved,
    encode_signed,
    request_topic,
)
from fedsparse.wire.enrolment_code import Code

SITE = "plant"
START = datetime(2026, 5, 4, 12, 0, 0, tzinfo=timezone.utc)
START_MS = int(START.timestamp() * 1000)
DAY_MS = 24 * 3600 * 1000
REQUEST = 32 * "a"


def key_for(code: Code, site: str, device: str) -> bytes:
    """Stands in for `derive_key`, which is slow on purpose."""
    return hashlib.sha256(f"{code}|{site}|{device}".encode()).digest()


class Notes:
    """A diary in memory."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def write(self, event: str, **fields: object) -> None:
        self.entries.append((event, dict(fields)))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.entries if name == event]

    @property
    def reason(self) -> str:
        """Of the last refusal."""
        return str(self.of("enrolment_refused")[-1]["reason"])


def csr_of(key: Ed25519PrivateKey, name: str = "whoever") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    return request.public_bytes(Encoding.DER)


def make_fleet(folder: Path) -> None:
    """What a fresh world finds in its folder."""
    Authority.create(folder, SITE, START)
    open_store(folder / "fleet.db").close()


class EnrolmentWorld:
    """One desk, with a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open(folder)
        self.store: Store = open_store(folder / "fleet.db")
        self.notes = Notes()
        self.now_ms = START_MS
        self.now_s = 100.0
        self.desk = self.new_desk()

    def new_desk(self) -> EnrolmentDesk:
        """As after a restart of the service."""
        place = Place(site=SITE, host="gateway.local", port=8883)
        return EnrolmentDesk(self.authority, self.store, place, self.notes)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.authority.certificate_der).digest()

    def code(self, device: str = "cam-01", hours: float = 24) -> Code:
        with self.store.writing() as db:
            return make_code(
                db, site=SITE, device=device, now_ms=self.now_ms, life=timedelta(hours=hours)
            )

    def enrol_frame(
        self,
        code: Code,
        key: Ed25519PrivateKey,
        device: str = "cam-01",
        *,
        request: str = REQUEST,
        csr: bytes | None = None,
        site: str = SITE,
        authority: bytes | None = None,
    ) -> tuple[str, bytes]:
        topic = request_topic(request)
        message = Enrol(
            site=site,
            device=device,
            code_id=code.code_id,
            csr=csr or csr_of(key),
            authority=authority or self.digest,
        )
        return topic, encode_proved(topic, message, key_for(code, site, device))

    def ask(self, frame: tuple[str, bytes]) -> Claim:
        """What the desk answers."""
        reply = self.desk.answer(*frame, now_ms=self.now_ms, now_s=self.now_s)
        assert reply is not None
        assert reply.topic == answer_topic(frame[0].rsplit("/", 1)[1])
        return decode_claim(reply.topic, reply.payload)

    def answer(self, frame: tuple[str, bytes]) -> Answer:
        message = self.ask(frame).message
        assert isinstance(message, Answer)
        return message

    def enrolled(self, device: str = "cam-01") -> tuple[Ed25519PrivateKey, bytes]:
        """A device that is in: its key and its certificate."""
        key = Ed25519PrivateKey.generate()
        answer = self.answer(self.enrol_frame(self.code(device), key, device))
        assert answer.certificate, self.notes.entries
        return key, answer.certificate

    def renew_frame(
        self,
        signer: Ed25519PrivateKey,
        new: Ed25519PrivateKey,
        device: str = "cam-01",
        *,
        site: str = SITE,
    ) -> tuple[str, bytes]:
        topic = request_topic(REQUEST)
        message = Renew(site=site, device=device, csr=csr_of(new))
        return topic, encode_signed(topic, message, KeySigner(signer))


def key_of(certificate: bytes) -> bytes:
    public = x509.load_der_x509_certificate(certificate).public_key()
    return public.public_bytes_raw()  # type: ignore[union-attr]


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def name_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
