"""What the broker grants to this device; only for when no agent is there in its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_client.config import ClientConfig
from fedsparse.doctor.grants import feature_rows, permission_rows
from fedsparse.doctor.row import Row, fault, ok
from fedsparse.doctor.visit import SYSTEM_VERSION, Errand, visit
from fedsparse.errors import FedSparseError
from fedsparse.wire.topics import Branch, Topics

if TYPE_CHECKING:
    import ssl

GRANT = (
    "let {device} write `{base}/up/{device}/#` and read `{base}/down/{device}/#` and "
    "`{base}/all/#` in the broker's access file (docs/broker.md)"
)
NO_TRANSFER = 64 * "0"


def broker_rows(config: ClientConfig, now_s: float, floor_s: float) -> Iterator[Row]:
    """Features, limits and permissions.

    Args:
        config: of the device.
        now_s: what the system's clock says, in seconds since 1970.
        floor_s: a moment that has passed for certain.
    """
    errand = errand_of(config)
    try:
        tls = _context(config, now_s, floor_s)
        found = visit(config.broker, tls, errand)
    except FedSparseError as error:
        yield fault("mqtt", error, "correct [broker]")
        return
    yield from feature_rows(config.broker, found)
    grant = GRANT.format(device=config.device, base=f"fl/v1/{config.site}")
    yield from permission_rows(errand, found, grant)
    if found.greeting is not None and not found.greeting.resumed:
        yield _forget_session(config, tls, errand)


def errand_of(config: ClientConfig) -> Errand:
    """Everything that the agent of this device says and hears."""
    topics, device = Topics(config.site), config.device
    return Errand(
        client_id=f"device/{config.site}/{device}",
        says=(
            topics.status(device),
            topics.message(Branch.UP, device),
            topics.chunk(Branch.UP, device, NO_TRANSFER, 0),
        ),
        hears=topics.device_filters(device),
    )


def _forget_session(config: ClientConfig, tls: ssl.SSLContext | None, first: Errand) -> Row:
    """Leave no session where there was none; a subscription of ours would stay in a kept one."""
    errand = Errand(
        client_id=first.client_id, says=first.says[:1], hears=(SYSTEM_VERSION,), clean=True
    )
    try:
        found = visit(config.broker, tls, errand)
    except FedSparseError as error:
        return fault("broker", error, "run this again: the broker lets nobody come twice")
    version = found.heard.get(SYSTEM_VERSION, b"").decode(errors="replace")
    return ok("broker", version or "does not tell its version")


def _context(config: ClientConfig, now_s: float, floor_s: float) -> ssl.SSLContext | None:
    if config.broker.tls is None:
        return None
    from fedsparse.transport.tls import open_context

    return open_context(config.broker.tls, now_s=now_s, floor_s=floor_s)
