"""`fedsparse identity serve` and `token`: where devices enrol, and what lets them in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer

from aggregator.events import EVENTS, EventLog
from aggregator.identity.fleet import Fleet
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.running import process_of
from aggregator.identity.service import open_service, run
from aggregator.identity.tokens import make_code
from aggregator.identity.upkeep import keep_fresh
from fedsparse.errors import ConfigError, TransportError
from fedsparse.wire.enrolment_code import fingerprint
from tools.demo.processes import ended_by_signals
from tools.identity.mosquitto import start_mosquitto

LOCK: Final = ".serve"
DEFAULT_PORT: Final = 8884  # of `edge-client enrol`


def run_service(folder: Path) -> None:
    """Let devices enrol until Ctrl-C or SIGTERM ends it.

    A broker that an earlier service left behind when it was killed is taken over.

    Raises:
        ConfigError: there is no such fleet, another service works for it, or a port is taken.
        TransportError: the enrolment broker does not start, or has ended.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    with Fleet.open(folder) as fleet, _alone(fleet), EventLog(fleet.folder / EVENTS) as diary:
        keep_fresh(fleet, utc_now())
        service = open_service(fleet, diary)
        with contextlib.suppress(KeyboardInterrupt), ended_by_signals(), _broker(fleet) as there:
            typer.echo(
                f"devices of {fleet.config.site} enrol on port {fleet.config.enrolment.port}; "
                "Ctrl-C ends it",
                err=True,
            )
            run(service, there)


def new_code(folder: Path, device: str, hours: float) -> dict[str, Any]:
    """A code for a device, and what a person needs to use it.

    Raises:
        ConfigError: there is no such fleet, or the device has a certificate.
    """
    with Fleet.open(folder) as fleet:
        now, life = utc_now(), timedelta(hours=hours)
        config = fleet.config
        with fleet.store.writing() as db:
            code = make_code(db, site=config.site, device=device, now_ms=to_ms(now), life=life)
        return {
            "device": device,
            "code": str(code),
            "expires": _minute(now + life),
            "fingerprint": fleet.authority.fingerprint,
            "short_fingerprint": fingerprint(fleet.authority.certificate_der),
            "host": config.hosts[0],
            "port": config.enrolment.port,
            "served": process_of(fleet.enrolment) is not None,
            "serve": f"fedsparse identity serve --fleet {folder}",
        }


def code_lines(document: dict[str, Any]) -> Iterator[str]:
    """What is printed of it."""
    port = "" if document["port"] == DEFAULT_PORT else f" --port {document['port']}"
    yield f"code:         {document['code']}"
    yield f"              lets {document['device']} in, once, until {document['expires']}"
    yield f"fingerprint:  {document['short_fingerprint']}"
    yield "on the device, which asks for the code:"
    yield f"  edge-client enrol client.toml --fingerprint {document['short_fingerprint']}{port}"


def as_json(document: dict[str, Any]) -> str:
    """The document for programs."""
    return json.dumps(document, indent=2)


@contextlib.contextmanager
def _alone(fleet: Fleet) -> Iterator[None]:
    """Two services of a fleet would throw each other off the broker."""
    with (fleet.folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another `fedsparse identity serve` works for {fleet.folder}: stop it first"
            ) from error
        yield


@contextlib.contextmanager
def _broker(fleet: Fleet) -> Iterator[Callable[[], None]]:
    """The enrolment broker runs within the block; what this yields raises once it has ended."""
    config, running = fleet.config.enrolment, None
    if process_of(fleet.enrolment) is None:
        running = start_mosquitto(fleet.enrolment, config.address, config.port)

    def still_there() -> None:
        if running is not None:
            running.process.poll()  # or its number stays in use
        if process_of(fleet.enrolment) is None:
            raise TransportError(
                f"the enrolment broker has ended; it says why in {fleet.enrolment.log}"
            )

    try:
        yield still_there
    finally:
        if running is not None:
            running.stop()
        elif (pid := process_of(fleet.enrolment)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # nobody is let in while no service runs


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
