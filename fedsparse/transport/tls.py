"""TLS towards the broker: whom we trust, who we are, and what a device without a clock does.

Only a connection that wants TLS imports this: the module `ssl` takes megabytes of a device's memory
(edge_client/lean.py).
"""

from __future__ import annotations

import logging
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from fedsparse.errors import ConfigError
from fedsparse.transport.config import TlsConfig
from fedsparse.transport.validity import Validity, read_validities

NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python does not name
OTHERS: Final = 0o077
logger = logging.getLogger(__name__)


def open_context(tls: TlsConfig, *, now_s: float, floor_s: float = 0.0) -> ssl.SSLContext:
    """What a connection is made with: TLS 1.2 or later, the fleet's authority, the broker's name.

    A clock that is certainly behind (a board without a battery, before its time is set) would call
    every certificate not yet valid. It is behind if it is before the latest moment that is known to
    have passed; chain and name are then checked without the dates.

    Args:
        tls: the files.
        now_s: what the system's clock says, in seconds since 1970.
        floor_s: a moment that has passed; those at which the authority's certificate and our own
            became valid are known anyway.

    Raises:
        ConfigError: a file is missing, damaged, readable by others, or does not fit another.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    dates = _dates("ca", tls.ca)
    _load_authority(context, tls.ca)
    if tls.certificate is not None and tls.key is not None:
        dates += _dates("certificate", tls.certificate)
        _load_identity(context, tls.certificate, tls.key)
    floor_s = max(floor_s, *(one.not_before_s for one in dates))
    if now_s < floor_s:
        logger.warning(
            "clock=behind now=%s at_least=%s: the dates of certificates are not checked",
            moment(now_s),
            moment(floor_s),
        )
        context.verify_flags |= NO_CHECK_TIME
    return context


def moment(seconds: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dates(key: str, path: Path) -> list[Validity]:
    try:
        return read_validities(path.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"[broker.tls] {key}: {path}: no such file; enrol the device, or correct the path"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: not ASCII, too
        raise ConfigError(
            f"[broker.tls] {key}: {path}: not a certificate in PEM form ({error}); take it again "
            "from where it was made"
        ) from error


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"[broker.tls] ca: {path}: OpenSSL cannot read it ({error}); take it again from the "
            "gateway"
        ) from error


def _load_identity(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    where = f"[broker.tls] key: {key}"
    try:
        if key.stat().st_mode & OTHERS:
            raise ConfigError(f"{where}: others may read it; `chmod 600 {key}`")
        context.load_cert_chain(certificate, key, password=_no_password)
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: no such file; enrol the device, or correct it") from error
    except (ssl.SSLError, OSError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{where}: it does not belong to the certificate {certificate}: give the pair that "
                "was made together, or enrol the device again"
            ) from error
        raise ConfigError(
            f"{where}: OpenSSL cannot read it ({error}): it must be a private key in PEM form, "
            "without a password"
        ) from error


def _no_password() -> str:
    """OpenSSL would ask at the terminal; a key with a password is refused instead."""
    return ""
