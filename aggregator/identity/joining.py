"""A job on the broker of a fleet: `fleet = "..."` in `job.toml` instead of addresses and files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from aggregator.identity.fleet import Fleet
from aggregator.identity.names import Duty, Role
from aggregator.identity.signatures import KeySigner, raw_key, trusted
from aggregator.identity.upkeep import add_role, keep_fresh
from aggregator.job import JobConfig
from aggregator.store import certificates
from aggregator.store.database import FLEET
from fedsparse.errors import ConfigError, RemoteProtocolError, StoreError
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.trust import Trust
from fedsparse.wire.signing import Trusted

HOST: Final = "localhost"  # by which the broker's certificate knows this machine
log = logging.getLogger("aggregator.identity")


class FleetTrust:
    """The gateway's own key, and the keys of the devices that are let in.

    Args:
        fleet: open; of the thread that asks.
        wall: what the system's clock says, in seconds since 1970.
    """

    def __init__(self, fleet: Fleet, wall: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._wall = wall
        self._known: dict[str, tuple[tuple[str, ...], Trusted]] = {}  # serials, by device
        self.trust = Trust(signer=KeySigner(fleet.authority.gateway_key), keys=self._keys)

    def _keys(self, device: str) -> Trusted | None:
        try:
            with self._fleet.store.reading() as db:
                good = certificates.live(db, int(1000 * self._wall()), device)
        except StoreError as error:  # an update that is not answered comes again
            log.error("store=%r", str(error))
            raise RemoteProtocolError(f"it is not known who {device!r} is: {error}") from error
        serials = tuple(one.serial for one in good)
        if not serials:
            self._known.pop(device, None)
            return None
        known = self._known.get(device)
        if known is None or known[0] != serials:
            public = [raw_key(x509.load_der_x509_certificate(one.certificate)) for one in good]
            known = self._known[device] = serials, trusted(public)
        return known[1]


def store_of(folder: Path) -> str | Path:
    """Where the facts of a fleet are: its jobs keep theirs there too.

    Raises:
        ConfigError: there is no such fleet.
    """
    with Fleet.open(folder) as fleet:
        return fleet.config.store or fleet.folder / FLEET


@contextmanager
def trust_in_fleet(folder: Path) -> Iterator[Trust]:
    """Whom a job of this fleet believes, and with which key it signs.

    Raises:
        ConfigError: there is no such fleet.
        StoreError: the fleet's store cannot be opened.
    """
    with Fleet.open(folder) as fleet:
        yield FleetTrust(fleet).trust


def in_fleet(job: JobConfig, now: datetime) -> JobConfig:
    """The job with the broker of its fleet, if it has one; what runs out is renewed.

    A certificate is issued if the job has none yet.

    Raises:
        ConfigError: there is no such fleet, it is another site's, or `[broker]` says otherwise.
        StoreError: the fleet's store cannot be opened.
    """
    if job.fleet is None:
        return job
    with Fleet.open(job.fleet) as fleet:
        if fleet.config.site != job.site:
            raise ConfigError(
                f"fleet {job.fleet} is the site {fleet.config.site!r}, the job's is {job.site!r}"
            )
        role = Role(duty=Duty.GATEWAY, job=job.name)
        certificate = fleet.role_file(role)
        if not certificate.exists():
            add_role(fleet, role, now)
            log.info("issued=%s", certificate)
        for what in keep_fresh(fleet, now):
            log.info("renewed=%r", what)
        tls = TlsConfig(ca=fleet.broker.authority, certificate=certificate, key=certificate)
        port = fleet.config.broker.port
    plain = BrokerConfig()
    if (job.broker.host, job.broker.port, job.broker.tls) != (plain.host, plain.port, None):
        raise ConfigError("fleet decides about host, port and tls: leave them out of [broker]")
    return replace(job, broker=replace(job.broker, host=HOST, port=port, tls=tls))
