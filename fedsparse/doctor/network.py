"""From the broker's name to a secure connection: what works, and which step does not.

No word of MQTT is spoken, so nobody is thrown off the broker.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import time
from collections.abc import Iterable, Iterator

from fedsparse.doctor.dates import validity_row
from fedsparse.doctor.row import Row, Verdict, fail, fault, ok
from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.validity import BEGIN, END, read_validities

TIMEOUT_S = 5.0
ALERT_S = 1.0  # in which a broker says that it refuses our certificate
LOCAL = ("localhost", "127.0.0.1", "::1")


def network_rows(broker: BrokerConfig, now_s: float, floor_s: float) -> Iterator[Row]:
    """Name, port, TLS and the broker's dates, up to the first that fails.

    Args:
        broker: where it is.
        now_s: what the system's clock says, in seconds since 1970.
        floor_s: a moment that has passed for certain.
    """
    try:
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield fail(
            "name",
            f"{broker.host}: {error}",
            "correct `host` in [broker], or the name server (`resolvectl status`); an address "
            "needs no name server",
        )
        return
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    yield ok("name", f"{broker.host}: {', '.join(addresses)}")
    try:
        plain = socket.create_connection((broker.host, broker.port), timeout=TIMEOUT_S)
    except OSError as error:
        yield fail("port", f"{broker.address}: {error}", _no_port(broker))
        return
    with contextlib.closing(plain):
        yield ok("port", f"{broker.address} accepts connections")
        if broker.tls is not None:
            yield from _tls_rows(broker, broker.tls, plain, now_s, floor_s)
        else:
            yield ok("tls", "none: [broker.tls] is not set; for trials and trusted networks only")


def reached(rows: Iterable[Row]) -> bool:
    """Whether all steps worked."""
    return all(row.verdict is not Verdict.FAIL for row in rows)


def _no_port(broker: BrokerConfig) -> str:
    start = " and start it (`fedsparse broker`, `systemctl start mosquitto`)"
    return (
        f"see that the broker runs{start if broker.host in LOCAL else ''}, that `port` in [broker] "
        "is its port, and that no firewall is between"
    )


def _tls_rows(
    broker: BrokerConfig, tls: TlsConfig, plain: socket.socket, now_s: float, floor_s: float
) -> Iterator[Row]:
    import ssl

    from fedsparse.transport.tls import open_context
    from fedsparse.transport.tls_faults import explain

    try:
        context = open_context(tls, now_s=now_s, floor_s=floor_s)
    except ConfigError as error:
        yield fault("tls", error, "correct [broker.tls]")
        return
    try:
        with context.wrap_socket(plain, server_hostname=broker.host) as secure:
            shown = secure.getpeercert(binary_form=True) or b""
            version, cipher = secure.version(), secure.cipher()
            _listen(secure)
    except (OSError, ssl.SSLError) as error:
        value, _, fix = explain(error, broker).partition(": ")
        yield fail("tls", value, fix)
        return
    yield ok(
        "tls",
        f"{version}, {cipher[0] if cipher else 'no cipher'}; signed by {tls.ca} for {broker.host}",
    )
    pem = f"{BEGIN}\n{base64.b64encode(shown).decode()}\n{END}\n"
    try:
        dates = read_validities(pem)[0]
    except ValueError as error:
        yield fail("broker dates", str(error), "fedsparse identity renew-broker")
        return
    yield validity_row(
        "broker dates",
        dates,
        max(now_s, floor_s),
        "on the gateway: fedsparse identity renew-broker",
    )


def _listen(secure: socket.socket) -> None:
    """With TLS 1.3 a broker refuses a certificate when we think that all is done.

    Raises:
        OSError: it does.
    """
    secure.settimeout(ALERT_S)
    until_s = time.monotonic() + ALERT_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < until_s and secure.recv(1):
            pass
