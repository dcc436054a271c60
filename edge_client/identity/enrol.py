"""Getting the first certificate (docs/wire.md, section 9)."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edge_client.config import ClientConfig
from edge_client.identity.errand import Desk, RefusedError, Say, Seen, ask, look
from edge_client.identity.folder import Home, IdentityFolder
from edge_client.identity.keys import (
    Certificate,
    DeviceKey,
    check_issued,
    pem_of,
    pending_key,
    read_certificate,
)
from fedsparse.errors import ConfigError, RemoteProtocolError, TransportError
from fedsparse.transport.config import TlsConfig
from fedsparse.transport.tls import open_context
from fedsparse.wire.enrolment import Answer, Claim, Enrol, encode_proved
from fedsparse.wire.enrolment_code import Code, Fingerprint, derive_key
from fedsparse.wire.signing import SignatureError, Trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a device has now.

    Attributes:
        certificate: its own.
        home: where the fleet is.
    """

    certificate: Certificate
    home: Home


def enrol(config: ClientConfig, desk: Desk, code: Code, trust: Fingerprint, *, say: Say) -> Settled:
    """Make a key, and have it certified; asked for again after a crash, it goes on.

    Args:
        config: who the device is, and where its identity is to be.
        desk: the enrolment broker.
        code: what a person brought from the gateway.
        trust: of the authority's certificate; brought likewise.
        say: told what takes time.

    Raises:
        ConfigError: the device has an identity, or its files cannot be used.
        TransportError: nobody is there, it is not the fleet's gateway, or it says no.
    """
    folder = IdentityFolder.of(config)
    if folder.device.exists():
        raise ConfigError(
            f"{folder.device}: the device has an identity already; `edge-client renew` gives it a "
            "newer one. To enrol it afresh, remove this file"
        )
    key = pending_key(folder)
    seen = look(desk)
    authority = trusted_authority(seen, trust, desk)
    say("deriving the proof from the code")
    secret = derive_key(code, site=config.site, device=config.device)
    message = Enrol(
        site=config.site,
        device=config.device,
        code_id=code.code_id,
        csr=key.request(config.device),
        authority=hashlib.sha256(seen.authority).digest(),
    )

    def check(claim: Claim) -> None:
        if not claim.is_proved_by(secret):
            raise SignatureError("its proof is wrong")
        _check_answer(claim, authority, key, config.device)

    context = context_for(authority, seen)
    say(f"asking {desk} for a certificate")
    try:
        answer = ask(
            desk, context, lambda topic: encode_proved(topic, message, secret), check, say=say
        )
    except RefusedError as error:
        raise RefusedError(
            f"the gateway refuses: the code is mistyped, used, expired, or for another device than "
            f"{config.device!r} of the site {config.site!r}; the gateway's log says which. "
            f"`fedsparse identity token {config.device}` there makes a new one"
        ) from error
    return settle(folder, key, answer, desk)


def trusted_authority(seen: Seen, trust: Fingerprint, desk: Desk) -> Certificate:
    """The authority's certificate, if it is the one that the fingerprint says.

    Raises:
        TransportError: it is another.
    """
    if not trust.matches(seen.authority):
        raise TransportError(
            f"{desk} shows another authority than the one that you gave: the fingerprint is "
            "mistyped or of another fleet, or somebody is in between. Nothing was sent; compare it "
            "with what `fedsparse identity token DEVICE` prints on the gateway"
        )
    try:
        return read_certificate(seen.authority)
    except RemoteProtocolError as error:
        raise TransportError(f"{desk} shows an authority that is none: {error}") from error


def context_for(authority: Certificate, seen: Seen) -> ssl.SSLContext:
    """Verifies the broker's chain and name.

    The date from which the broker's certificate is good counts as one that has passed: a board
    whose clock is behind that cannot see its certificate as not yet valid.
    """
    try:
        floor = read_certificate(seen.broker).not_valid_before_utc.timestamp()
    except RemoteProtocolError:
        floor = 0.0
    with tempfile.TemporaryDirectory(prefix="edge-client-") as folder:
        path = Path(folder) / "ca.pem"
        path.write_bytes(pem_of(authority))
        return open_context(TlsConfig(ca=path), now_s=time.time(), floor_s=floor)


def settle(folder: IdentityFolder, key: DeviceKey, answer: Answer, desk: Desk) -> Settled:
    """Keep what the gateway granted."""
    certificate = read_certificate(answer.certificate)
    home = Home(
        host=answer.host,
        port=answer.port,
        enrolment_host=desk.host,
        enrolment_port=desk.port,
        now_ms=answer.now_ms,
    )
    folder.settle(
        device_pem=pem_of(certificate) + key.pem,
        authority_pem=pem_of(read_certificate(answer.authority)),
        gateway_keys=(answer.gateway_key,),
        home=home,
    )
    return Settled(certificate=certificate, home=home)


def check_renewed(
    claim: Claim, gateway: Trusted, authority: Certificate, key: DeviceKey, device: str
) -> None:
    """Whether an answer to a renewal is the gateway's, and what was asked for.

    Raises:
        RemoteProtocolError: it is not.
    """
    claim.check_signature(gateway)
    _check_answer(claim, authority, key, device)


def _check_answer(claim: Claim, authority: Certificate, key: DeviceKey, device: str) -> None:
    answer = claim.message
    if not isinstance(answer, Answer):
        raise RemoteProtocolError("no answer")
    if read_certificate(answer.authority) != authority:
        raise RemoteProtocolError("it names another authority")
    check_issued(read_certificate(answer.certificate), authority, key.public_key, device)
