"""How a device gets its certificate, and the next one (docs/wire.md, section 9).

A request and its answer are frames without a body, whose headers hold a proof. `Enrol` is proved
by the key that is derived from a code (fedsparse/wire/enrolment_code.py), and so is its answer;
`Renew` is signed by the key that the device has, and its answer by the gateway's.

A request's number is 16 random bytes, drawn for it alone; it is a level of both topics and part of
both proofs, so that no answer fits another request.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final

from fedsparse.errors import ProtocolError, RemoteProtocolError
from fedsparse.wire import cbor
from fedsparse.wire.enrolment_code import ALPHABET, ID_LENGTH
from fedsparse.wire.frame import decode_frame, encode_frame
from fedsparse.wire.messages import NAME
from fedsparse.wire.signing import Signer, Trusted, with_signature
from fedsparse.wire.topics import ROOT

CLAIMS: Final = f"{ROOT}/prov"
AUTHORITY_TOPIC: Final = f"{CLAIMS}/ca"  # retained: the authority's certificate (DER), no frame
REQUESTS: Final = f"{CLAIMS}/req/+"
REQUEST: Final = re.compile(r"[0-9a-f]{32}")
TOKEN_ID: Final = re.compile(f"[{ALPHABET}]{{{ID_LENGTH}}}")
DOMAIN: Final = b"fedsparse-enrol-1\0"
PROOF: Final = "ma"
PROOF_BYTES: Final = 32
MAX_PAYLOAD_BYTES: Final = 8 * 1024
MAX_CERTIFICATE_BYTES: Final = 3 * 1024
MAX_HOST: Final = 253
LAST_MS: Final = 2**50


class Outcome(str, Enum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"  # why is told to the gateway's operator, not to whoever asked
    RETRY = "retry"  # too many were refused lately: none is looked at for a while


class ProofError(RemoteProtocolError):
    """A request or an answer that is not from whom it says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """A device without a certificate asks for its first.

    Attributes:
        code_id: of the code that it was given.
        csr: the certificate request (DER): its key, and that it has it.
        authority: SHA-256 of the authority's certificate that it trusts.
    """

    KIND: ClassVar[int] = 32
    site: str
    device: str
    code_id: str
    csr: bytes
    authority: bytes

    def __post_init__(self) -> None:
        _check_names(self.site, self.device)
        _check(TOKEN_ID.fullmatch(self.code_id) is not None, "no code has this id")
        _check_certificate("csr", self.csr)
        _check(len(self.authority) == 32, "the authority's digest has not 32 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """A device asks for a certificate that lasts longer, for a new key."""

    KIND: ClassVar[int] = 33
    site: str
    device: str
    csr: bytes

    def __post_init__(self) -> None:
        _check_names(self.site, self.device)
        _check_certificate("csr", self.csr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the gateway says to either.

    Attributes:
        certificate: of the device (DER); empty unless `ok`, as are all that follow.
        authority: the authority's certificate (DER).
        gateway_key: with which the gateway signs messages: 32 bytes.
        host, port: of the fleet's broker.
        now_ms: what the gateway's clock says; ms since 1970, UTC.
    """

    KIND: ClassVar[int] = 34
    outcome: Outcome
    certificate: bytes = b""
    authority: bytes = b""
    gateway_key: bytes = b""
    host: str = ""
    port: int = 0
    now_ms: int = 0

    def __post_init__(self) -> None:
        if self.outcome is not Outcome.OK:
            return
        _check_certificate("certificate", self.certificate)
        _check_certificate("authority", self.authority)
        _check(len(self.gateway_key) == 32, "the gateway's key has not 32 bytes")
        _check(0 < len(self.host) <= MAX_HOST, "a broker without a host")
        _check(0 < self.port < 65536, f"port {self.port}")
        _check(0 < self.now_ms < LAST_MS, f"now_ms {self.now_ms}")


Message = Enrol | Renew | Answer
KEYS: Final = {
    "site": "si", "device": "d", "code_id": "ci", "csr": "cs", "authority": "au",
    "outcome": "vd", "certificate": "ce", "gateway_key": "gk", "host": "ho", "port": "po",
    "now_ms": "nw",
}  # fmt: skip
FIELDS: Final[dict[type[Message], dict[str, type]]] = {
    Enrol: {"site": str, "device": str, "code_id": str, "csr": bytes, "authority": bytes},
    Renew: {"site": str, "device": str, "csr": bytes},
    Answer: {
        "outcome": Outcome, "certificate": bytes, "authority": bytes, "gateway_key": bytes,
        "host": str, "port": int, "now_ms": int,
    },
}  # fmt: skip
KINDS: Final = {kind.KIND: kind for kind in FIELDS}
DEFAULTS: Final = {str: "", bytes: b"", int: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What came, with its proof not yet looked at.

    Attributes:
        topic: on which it came.
        message: what it says.
        header: as it came.
    """

    topic: str
    message: Message
    header: Mapping[str, Any]

    def is_proved_by(self, key: bytes) -> bool:
        """Whether who sent it knows the key of a code."""
        proof = self.header.get(PROOF)
        if type(proof) is not bytes or len(proof) != PROOF_BYTES:
            return False
        return hmac.compare_digest(proof, _proof(key, self.topic, self.message.KIND, self.header))

    def check_signature(self, trusted: Trusted) -> None:
        """Let it pass if one of these keys has signed it.

        Raises:
            SignatureError: none has.
        """
        trusted.check(self.topic, self.message.KIND, self.header)


def new_request() -> str:
    """The number of a new request."""
    return secrets.token_hex(16)


def request_topic(request: str) -> str:
    """Where a request is published."""
    return f"{CLAIMS}/req/{request}"


def answer_topic(request: str) -> str:
    """Where its answer is published."""
    return f"{CLAIMS}/res/{request}"


def parse_request_topic(topic: str) -> str:
    """The number of the request that came on a topic.

    Raises:
        RemoteProtocolError: no request comes on it.
    """
    request = topic.removeprefix(f"{CLAIMS}/req/")
    if not REQUEST.fullmatch(request):
        raise RemoteProtocolError(f"no request comes on {topic[:200]!r}")
    return request


def encode_plain(message: Message) -> bytes:
    """A frame without a proof, for an answer to somebody unknown."""
    return encode_frame(message.KIND, _to_header(message))


def encode_proved(topic: str, message: Message, key: bytes) -> bytes:
    """A frame that is proved by the key of a code."""
    header = _to_header(message)
    header[PROOF] = _proof(key, topic, message.KIND, header)
    return encode_frame(message.KIND, header)


def encode_signed(topic: str, message: Message, signer: Signer) -> bytes:
    """A frame that is signed."""
    return encode_frame(
        message.KIND, with_signature(topic, message.KIND, _to_header(message), signer)
    )


def decode_claim(topic: str, payload: bytes) -> Claim:
    """Read a request or an answer; its proof is not looked at.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RemoteProtocolError(f"a request of {len(payload)} bytes")
    frame = decode_frame(payload)
    if frame.kind not in KINDS or len(frame.body):
        raise RemoteProtocolError(f"a frame of kind {frame.kind} where no such frame belongs")
    message = _from_header(KINDS[frame.kind], frame.header)
    return Claim(topic=topic, message=message, header=frame.header)


def _proof(key: bytes, topic: str, kind: int, header: Mapping[str, Any]) -> bytes:
    fields = {name: value for name, value in header.items() if name != PROOF}
    data = DOMAIN + topic.encode() + b"\0" + bytes([kind]) + cbor.dumps(fields)
    return hmac.digest(key, data, "sha256")


def _to_header(message: Message) -> dict[str, Any]:
    header = {}
    for name, kind in FIELDS[type(message)].items():
        value = getattr(message, name)
        if value != DEFAULTS.get(kind):
            header[KEYS[name]] = value.value if kind is Outcome else value
    return header


def _from_header(kind: type[Message], header: Mapping[str, Any]) -> Message:
    values: dict[str, Any] = {}
    for name, expected in FIELDS[kind].items():
        value = header.get(KEYS[name], DEFAULTS.get(expected))
        if expected is Outcome:
            value = _outcome(value)
        elif type(value) is not expected:
            raise RemoteProtocolError(f"{kind.__name__}.{name}: expected {expected.__name__}")
        values[name] = value
    try:
        return kind(**values)
    except ProtocolError as error:
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from error


def _outcome(value: object) -> Outcome:
    try:
        return Outcome(value)
    except ValueError as error:
        raise RemoteProtocolError("Answer.outcome: none that there is") from error


def _check(good: bool, complaint: str) -> None:
    if not good:
        raise ProtocolError(complaint)


def _check_names(site: str, device: str) -> None:
    _check(NAME.fullmatch(site) is not None, f"no site is named {site[:64]!r}")
    _check(NAME.fullmatch(device) is not None, f"no device is named {device[:64]!r}")


def _check_certificate(what: str, der: bytes) -> None:
    _check(0 < len(der) <= MAX_CERTIFICATE_BYTES, f"{what} of {len(der)} bytes")
