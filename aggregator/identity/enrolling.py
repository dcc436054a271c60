"""Who asks for a certificate, whether it is granted, and what is answered (docs/wire.md, 9).

Everything that an answer promises is in the store before the answer is sent. An answer that is lost
is given again to the same request, or to another one for the same key.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from aggregator.events import Diary
from aggregator.identity.allowance import Allowance
from aggregator.identity.authority import Authority
from aggregator.identity.issuing import note, serial_text
from aggregator.identity.moment import from_ms
from aggregator.identity.signatures import KeySigner, raw_key, trusted
from aggregator.identity.tokens import Refusal, check_code
from aggregator.store import certificates, devices, tokens
from aggregator.store.certificates import Certificate
from aggregator.store.database import Store
from aggregator.store.devices import State
from fedsparse.errors import RemoteProtocolError, StoreError
from fedsparse.wire.enrolment import (
    Answer,
    Claim,
    Enrol,
    Outcome,
    Renew,
    answer_topic,
    decode_claim,
    encode_plain,
    encode_proved,
    encode_signed,
    parse_request_topic,
)
from fedsparse.wire.signing import SignatureError

log = logging.getLogger("identity")

LIVE_CERTIFICATES: Final = 4  # of one device at a time; renewing in time makes two
GUESSES: Final = 10  # wrong proofs at once, by whomever, and then
GUESS_EVERY_S: Final = 10.0
LINES: Final = 200  # refusals in the diary at once, and then
LINE_EVERY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a device has to know about its fleet: the broker's host and port, and the site."""

    site: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to publish; `returned` says that a device is in again whose access was taken from it."""

    topic: str
    payload: bytes
    returned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Granted:
    certificate: bytes
    key: bytes = b""  # of the code; empty: the answer is signed
    again: bool = False  # the answer was lost
    returned: bool = False


class EnrolmentDesk:
    """Decides about requests, one after the other.

    Args:
        authority: signs the certificates.
        store: of codes, certificates and devices.
        place: told to those who get in.
        diary: told of everything.
    """

    def __init__(self, authority: Authority, store: Store, place: Place, diary: Diary) -> None:
        self._authority = authority
        self._store = store
        self._place = place
        self._diary = diary
        self._digest = hashlib.sha256(authority.certificate_der).digest()
        self._signer = KeySigner(authority.gateway_key)
        self._guesses = Allowance(burst=GUESSES, every_s=GUESS_EVERY_S)
        self._lines = Allowance(burst=LINES, every_s=LINE_EVERY_S)
        self._unwritten = 0

    def answer(self, topic: str, payload: bytes, *, now_ms: int, now_s: float) -> Reply | None:
        """What to answer; None where it is no request, which nobody answers.

        Args:
            topic: on which the request came.
            payload: the request.
            now_ms: the time, ms since 1970, UTC.
            now_s: of a clock that never goes back.

        Raises:
            StoreError: nothing was decided; the device asks again.
        """
        try:
            target = answer_topic(parse_request_topic(topic))
            claim = decode_claim(topic, payload)
        except RemoteProtocolError as error:
            self._refused("malformed", str(error), now_s)
            return None
        request = claim.message
        if isinstance(request, Enrol):
            outcome = self._enrol(claim, request, now_ms, now_s)
        elif isinstance(request, Renew):
            outcome = self._renew(claim, request, now_ms)
        else:
            self._refused("malformed", "an answer where a request belongs", now_s)
            return None
        if outcome is None:
            return Reply(topic=target, payload=encode_plain(Answer(outcome=Outcome.RETRY)))
        if isinstance(outcome, Refusal):
            code_id = request.code_id if isinstance(request, Enrol) else ""
            self._refused(request.device, outcome.reason, now_s, code=code_id)
            return Reply(topic=target, payload=encode_plain(Answer(outcome=Outcome.REFUSED)))
        self._granted(request, outcome)
        return self._reply(target, outcome, now_ms)

    def _enrol(
        self, claim: Claim, request: Enrol, now_ms: int, now_s: float
    ) -> _Granted | Refusal | None:
        """None: too many have guessed lately, and nobody is looked at for a moment."""
        if not self._guesses.is_left(now_s):
            self._refused(request.device, "too many wrong proofs lately", now_s, request.code_id)
            return None
        with self._store.writing() as db:
            outcome = self._judge(db, claim, request, now_ms)
        if isinstance(outcome, Refusal) and outcome.guess:
            self._guesses.take(now_s)
        return outcome

    def _judge(
        self, db: Connection, claim: Claim, request: Enrol, now_ms: int
    ) -> _Granted | Refusal:
        if request.site != self._place.site:
            return Refusal(reason=f"it wants the site {request.site}")
        digest = hashlib.sha256(request.csr).digest()
        token = check_code(db, claim, request, digest, now_ms)
        if isinstance(token, Refusal):
            return token
        if request.authority != self._digest:
            return Refusal(reason="it trusts another authority than ours")
        live = certificates.live(db, now_ms, request.device)
        if token.used_ms is not None:
            mine = [one for one in live if one.serial == token.serial]
            if not mine:
                return Refusal(reason="the code was used, and its certificate is good no longer")
            return _Granted(certificate=mine[0].certificate, key=token.key, again=True)
        if live:
            return Refusal(reason="it has a certificate already: revoke that one first")
        issued = self._issue(db, request, now_ms)
        if isinstance(issued, Refusal):
            return issued
        certificate, returned = issued
        serial = serial_text(certificate)
        if not tokens.use(db, token.id, csr_digest=digest, serial=serial, now_ms=now_ms):
            raise StoreError(f"another program has used the code {token.id} at the same moment")
        return _Granted(certificate=_der(certificate), key=token.key, returned=returned)

    def _renew(self, claim: Claim, request: Renew, now_ms: int) -> _Granted | Refusal:
        if request.site != self._place.site:
            return Refusal(reason=f"it wants the site {request.site}")
        with self._store.writing() as db:
            live = certificates.live(db, now_ms, request.device)
            if not live:
                return Refusal(reason="it has no certificate that is good: a new code lets it in")
            try:
                claim.check_signature(trusted([_key_of(one) for one in live]))
            except SignatureError as error:
                return Refusal(reason=f"not signed by the device: {error}")
            for one in live:
                if _csr_key(request.csr) == _key_of(one):
                    return _Granted(certificate=one.certificate, again=True)
            if len(live) >= LIVE_CERTIFICATES:
                return Refusal(reason=f"it has {len(live)} certificates that are good")
            issued = self._issue(db, request, now_ms)
        if isinstance(issued, Refusal):
            return issued
        return _Granted(certificate=_der(issued[0]))

    def _issue(
        self, db: Connection, request: Enrol | Renew, now_ms: int
    ) -> tuple[x509.Certificate, bool] | Refusal:
        """A certificate, in the store; and whether the device's access had been revoked."""
        now = from_ms(now_ms)
        try:
            csr = x509.load_der_x509_csr(request.csr)
            certificate = self._authority.issue_device(request.device, csr, now)
        except (ValueError, RemoteProtocolError) as error:
            return Refusal(reason=f"a bad certificate request: {error}")
        known = devices.find(db, request.device)
        note(db, certificate, now)
        devices.enrol(db, request.device, raw_key(certificate), now_ms)
        return certificate, known is not None and known.state is State.REVOKED

    def _reply(self, topic: str, granted: _Granted, now_ms: int) -> Reply:
        answer = Answer(
            outcome=Outcome.OK,
            certificate=granted.certificate,
            authority=self._authority.certificate_der,
            gateway_key=self._signer.public_key,
            host=self._place.host,
            port=self._place.port,
            now_ms=now_ms,
        )
        if granted.key:
            payload = encode_proved(topic, answer, granted.key)
        else:
            payload = encode_signed(topic, answer, self._signer)
        return Reply(topic=topic, payload=payload, returned=granted.returned)

    def _granted(self, request: Enrol | Renew, granted: _Granted) -> None:
        event = "device_enrolled" if isinstance(request, Enrol) else "device_renewed"
        serial = serial_text(x509.load_der_x509_certificate(granted.certificate))
        self._diary.write(event, device=request.device, serial=serial, again=granted.again)
        log.info("%s device=%s serial=%s again=%s", event, request.device, serial, granted.again)

    def _refused(self, device: str, reason: str, now_s: float, code: str = "") -> None:
        """A line in the diary; of a flood only that it was one."""
        if not self._lines.take(now_s):
            self._unwritten += 1
            return
        fields = {"device": device, "code": code, "reason": reason, "unwritten": self._unwritten}
        self._unwritten = 0
        self._diary.write("enrolment_refused", **fields)
        log.warning("enrolment=refused device=%s code=%s reason=%r", device, code, reason)


def _csr_key(csr: bytes) -> bytes:
    """The key that a certificate request is for; none where it is damaged."""
    try:
        key = x509.load_der_x509_csr(csr).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""


def _key_of(certificate: Certificate) -> bytes:
    return raw_key(x509.load_der_x509_certificate(certificate.certificate))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
