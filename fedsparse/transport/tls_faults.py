"""What it means when a TLS connection is not made, and what to do about it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.tls import moment
from fedsparse.transport.validity import read_validities

# Source: OpenSSL, x509_vfy.h.
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
UNKNOWN_ISSUER: Final = (2, 7, 18, 19, 20, 21)  # 7: an authority of the same name signed it
OTHER_NAME: Final = (62, 64)

OTHER_FLEET: Final = (
    "the broker refuses our certificate {certificate}: another authority has signed it than the "
    "broker's; enrol the device with this fleet"
)
# What the other end says of our certificate: a part of OpenSSL's name of the alert -> why.
ALERTS: Final[Mapping[str, str]] = {
    "CERTIFICATE_REQUIRED": "the broker asks for a certificate, and [broker.tls] has none: enrol "
    "the device, and set certificate and key",
    "CERTIFICATE_REVOKED": "the broker refuses our certificate {certificate}: it is revoked; if "
    "that was a mistake, enrol the device again",
    "CERTIFICATE_EXPIRED": "the broker refuses our certificate {certificate}: it has expired, or "
    "the broker's list of revoked ones has; enrol the device again, or renew the list on the "
    "gateway",
    "UNKNOWN_CA": OTHER_FLEET,
    "DECRYPT_ERROR": OTHER_FLEET,  # an authority of the same name signed it
    "ALERT_CERTIFICATE_UNKNOWN": "the broker refuses our certificate {certificate}: it is revoked, "
    "expired or of another fleet; enrol the device again",
    "BAD_CERTIFICATE": "the broker refuses our certificate {certificate}: it is damaged or not "
    "yet valid by the broker's clock; correct that clock, or enrol the device again",
    "HANDSHAKE_FAILURE": "the broker asks for a certificate and accepts none that [broker.tls] "
    "gives ({certificate}), or has no cipher in common with us: enrol the device, and set "
    "certificate and key",
}
OLD: Final = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "WRONG_SSL_VERSION")


def explain(error: Exception | None, broker: BrokerConfig) -> str:
    """Why there is no connection, and the way out.

    Args:
        error: what ended the handshake, or the connection after it and before the broker's answer:
            with TLS 1.3 a broker looks at our certificate when we think that all is done. None: it
            ended without a word.
        broker: whom we wanted.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_the_broker(error, broker)
    name = getattr(error, "reason", None) or ""
    for part, text in ALERTS.items():
        if part in name:
            return text.format(certificate=_own(broker))
    if any(part in name for part in OLD):
        return "the broker speaks no TLS of version 1.2 or later: update it"
    if isinstance(error, TimeoutError):
        return f"{broker.address} does not answer in TLS: {_other_port(broker)}"
    return f"{broker.address} does not speak TLS ({error}): {_other_port(broker)}"


def explain_silence(error: Exception | None, broker: BrokerConfig) -> str:
    """Why a connection whose handshake is done ended before the broker answered in MQTT."""
    name = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLError) and any(part in name for part in ALERTS):
        return explain(error, broker)
    return (
        "the broker ends the connection without a word"
        + (f" ({error})" if error else "")
        + f": our certificate {_own(broker)} is refused (revoked, expired, of another fleet), "
        "or this is not a port for MQTT; enrol the device again, or correct the port"
    )


def _of_the_broker(error: ssl.SSLCertVerificationError, broker: BrokerConfig) -> str:
    ca = broker.tls.ca if broker.tls else ""
    now = moment(time.time())
    if error.verify_code in UNKNOWN_ISSUER:
        return (
            f"the broker's certificate is not signed by the authority in {ca} "
            f"({error.verify_message}): this is another fleet's broker, or the file is old; copy "
            "the authority's certificate from the gateway again"
        )
    if error.verify_code in OTHER_NAME:
        return (
            f"the broker's certificate is not for the name {broker.host!r}: set `host` to a name "
            "that it is for, or have one made for this name on the gateway"
        )
    if error.verify_code == EXPIRED:
        return (
            f"the broker's certificate has expired (it is {now} here): have it renewed on the "
            "gateway; or set this clock, if it is wrong"
        )
    if error.verify_code == NOT_YET_VALID:
        return (
            f"the broker's certificate is not valid yet (it is {now} here): set this clock "
            "(`timedatectl set-ntp true`), or the gateway's, where it was made"
        )
    return f"the broker's certificate is refused: {error.verify_message}; have another one made"


def _other_port(broker: BrokerConfig) -> str:
    return (
        f"is {broker.port} the broker's port for plain connections? TLS has 8883 as a rule; "
        "correct `port`, or leave out [broker.tls] in a network that you trust"
    )


def _own(broker: BrokerConfig) -> str:
    path = broker.tls.certificate if broker.tls else None
    return "(there is none)" if path is None else f"{path}{_age(path)}"


def _age(path: Path) -> str:
    try:
        dates = read_validities(path.read_text(encoding="ascii"))[0]
    except (OSError, ValueError):
        return ""
    return f" (valid until {moment(dates.not_after_s)})"
