"""`fedsparse broker --fleet`: the fleet's broker in the foreground, and what it needs in time."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import typer

from aggregator.identity.fleet import Fleet
from aggregator.identity.moment import utc_now
from aggregator.identity.running import process_of, rotate_log
from aggregator.identity.upkeep import keep_fresh
from fedsparse.errors import ConfigError, FedSparseError, TransportError
from tools.broker import RunningBroker
from tools.demo.processes import ended_by_signals
from tools.identity.mosquitto import start_mosquitto

LOOK_S: Final = 60.0
UPKEEP_EVERY: Final = 60  # looks
log = logging.getLogger("fedsparse.broker")


def run_fleet_broker(folder: Path) -> None:
    """Run the fleet's broker until Ctrl-C or SIGTERM ends it; renew what runs out meanwhile.

    Raises:
        ConfigError: there is no such fleet, its broker runs already, or its port is taken.
        TransportError: the broker does not start, or ended by itself.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    with Fleet.open(folder) as fleet:
        if (pid := process_of(fleet.broker)) is not None:
            raise ConfigError(f"the broker of {folder} runs already: process {pid}")
        for what in keep_fresh(fleet, utc_now()):
            log.info("renewed=%r", what)
        config = fleet.config.broker
        running = start_mosquitto(fleet.broker, config.address, config.port)
        typer.echo(
            f"the broker of {fleet.config.site} listens on port {config.port}; Ctrl-C ends it",
            err=True,
        )
        try:
            with contextlib.suppress(KeyboardInterrupt), ended_by_signals():
                _watch(fleet, running)
        finally:
            running.stop()


def _watch(fleet: Fleet, running: RunningBroker) -> None:
    looks = 0
    while True:
        try:
            code = running.process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            looks += 1
            _look(fleet, renew=looks % UPKEEP_EVERY == 0)
        else:
            raise TransportError(
                f"mosquitto ended with {code}; it says why in {fleet.broker.log} or "
                f"{fleet.broker.path / 'mosquitto.out'}"
            )


def _look(fleet: Fleet, *, renew: bool) -> None:
    """What fails is tried again, and does not end the broker: there are days of it left."""
    try:
        for folder in (fleet.broker, fleet.enrolment):
            rotate_log(folder)
        for what in keep_fresh(fleet, utc_now()) if renew else ():
            log.info("renewed=%r", what)
    except (FedSparseError, OSError) as error:
        log.error("upkeep=%r", str(error))
