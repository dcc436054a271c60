"""A job on the broker of a fleet: `fleet = "..."` in `job.toml` instead of addresses and files."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final

from aggregator.identity.fleet import Fleet
from aggregator.identity.names import Duty, Role
from aggregator.identity.upkeep import add_role, keep_fresh
from aggregator.job import JobConfig
from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig, TlsConfig

HOST: Final = "localhost"  # by which the broker's certificate knows this machine
log = logging.getLogger("aggregator.identity")


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
