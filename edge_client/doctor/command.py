"""`edge-client doctor`: every check in its order, each line as soon as it is known."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from edge_client.agent.renewal import known_moment_s
from edge_client.config import ClientConfig
from edge_client.doctor.broker import broker_rows
from edge_client.doctor.files import config_rows, store_rows
from edge_client.doctor.trainer import trainer_rows
from edge_client.lock import StoreInUse, alone
from edge_client.probe.memory import read_memory
from fedsparse.config import load
from fedsparse.doctor.dates import certificate_row, clock_row
from fedsparse.doctor.machine import disk_row, folder_row, memory_row, versions_row
from fedsparse.doctor.network import network_rows, reached
from fedsparse.doctor.row import Row, Verdict, document, exit_code, fault, ok, warn
from fedsparse.errors import ConfigError, FedSparseError
from fedsparse.transport.validity import read_validities

PACKAGES: Final = ("paho-mqtt", "cbor2", "numpy")
RENEW: Final = "edge-client renew {path} (or enrol the device again, if it has expired)"


def run(options: argparse.Namespace) -> int:
    """Check, print; returns 0 where all is well, 1 with warnings, 2 with failures."""
    logging.disable(logging.CRITICAL)  # what is wrong is told in lines of its own
    rows = []
    for row in device_rows(options.config):
        rows.append(row)
        if not options.json:
            sys.stdout.write(f"{row.line}\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(f"{json.dumps(document(rows), indent=2)}\n")
    return exit_code(rows)


def device_rows(path: Path) -> Iterator[Row]:
    """All checks of the device that `client.toml` describes."""
    try:
        config = load(ClientConfig, path)
    except FedSparseError as error:
        yield fault("config", error, f"correct {path}; docs/by-hand.md has an example")
        return
    yield from config_rows(path, config)
    with ExitStack() as held:
        lock = folder_row("store", config.store)
        yield lock
        free = False
        if lock.verdict is Verdict.OK and config.store.is_dir():
            row = _lock_row(config, held)
            yield row
            free = row.value.startswith("free")
        yield disk_row(config.store)
        yield from store_rows(config.store)
        yield from _connection_rows(path, config, alone=free or not config.store.is_dir())
    memory = read_memory()
    yield memory_row(memory.available_bytes, memory.source)
    yield versions_row(PACKAGES)
    yield from trainer_rows()


def _lock_row(config: ClientConfig, held: ExitStack) -> Row:
    """Hold the store for as long as the doctor looks, if nobody else does."""
    try:
        held.enter_context(alone(config.store))
    except StoreInUse:
        return ok("agent", "runs: the broker is not spoken to in its name")
    except ConfigError as error:
        return fault("agent", error, "see that this user can write there")
    return ok("agent", "free: none runs with this store")


def _connection_rows(path: Path, config: ClientConfig, *, alone: bool) -> Iterator[Row]:
    now_s, floor_s = time.time(), 0.0
    try:
        floor_s = known_moment_s(config)
    except ConfigError as error:
        yield fault("identity", error, "enrol the device")
    yield clock_row(now_s, max(floor_s, _issued_s(config)))
    yield from _certificate_rows(path, config, max(now_s, floor_s))
    steps = []
    for row in network_rows(config.broker, now_s, floor_s):
        steps.append(row)
        yield row
    if not reached(steps):
        yield warn("mqtt", "not tried: there is no connection", "mend what failed above")
    elif not alone:
        yield ok("mqtt", "not tried: an agent runs in this name, and would be thrown off")
    else:
        yield from broker_rows(config, now_s, floor_s)


def _certificate_rows(path: Path, config: ClientConfig, now_s: float) -> Iterator[Row]:
    tls = config.broker.tls
    if tls is None:
        return
    authority = "take ca.pem again from the gateway (docs/security.md)"
    yield certificate_row("authority", tls.ca, now_s, authority)
    if tls.certificate is not None:
        renew = RENEW.format(path=path)
        yield certificate_row("certificate", tls.certificate, now_s, renew)


def _issued_s(config: ClientConfig) -> float:
    """When the newest certificate here began: that moment has passed."""
    tls, found = config.broker.tls, [0.0]
    for path in (tls.ca, tls.certificate) if tls else ():
        try:
            if path is not None:
                text = path.read_text(encoding="ascii")
                found += [one.not_before_s for one in read_validities(text)]
        except (OSError, ValueError):
            continue  # told by a line of its own
    return max(found)
