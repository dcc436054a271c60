"""Starts mosquitto with the files of a fleet (aggregator/identity/broker_files.py)."""

from __future__ import annotations

import logging
import re
import resource
from typing import Final

from aggregator.identity.broker_files import BrokerFolder
from aggregator.identity.fleet_file import near
from fedsparse.errors import ConfigError, TransportError
from tools.broker import RunningBroker, find_mosquitto, free_port, launch

MAX_CONNECTIONS: Final = re.compile(r"^max_connections (\d+)$", re.MULTILINE)
OTHER_FILES: Final = 32  # listeners, log, sessions, and what it reads
log = logging.getLogger("fedsparse.broker")


def start_mosquitto(folder: BrokerFolder, address: str, port: int) -> RunningBroker:
    """Start a broker of a fleet and wait until it accepts connections.

    Args:
        folder: its files.
        address: on which it listens, as in `fleet.toml`.
        port: the same.

    Raises:
        ConfigError: mosquitto is not installed, or the port is taken.
        TransportError: it does not start; the message says where it says why.
    """
    program = find_mosquitto()
    if program is None:
        raise ConfigError("mosquitto is not installed: sudo apt install mosquitto")
    host = near(address)
    free_port(host, port)
    environment = {"OPENSSL_CONF": str(folder.openssl_conf)}
    command = [program, "-c", str(folder.conf)]
    broker = launch("mosquitto", command, folder.path, host, port, environment=environment)
    if broker is None:
        raise TransportError(
            f"mosquitto does not start on {host}:{port}; it says why in {folder.log} or "
            f"{folder.path / 'mosquitto.out'}"
        )
    _bound_connections(broker.process.pid, folder)
    return broker


def _bound_connections(pid: int, folder: BrokerFolder) -> None:
    """Let it open as many files as it may have connections, and a few.

    mosquitto 2.0 forgets `max_connections` when it reads its files again. With no file to open it
    refuses whoever comes next, and goes on with the others.
    """
    wanted = sum(map(int, MAX_CONNECTIONS.findall(folder.conf.read_text()))) + OTHER_FILES
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if allowed < wanted:
        log.warning(
            "files=%d wanted=%d: fewer can be connected at once; raise `ulimit -n`", allowed, wanted
        )
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (allowed, most))
