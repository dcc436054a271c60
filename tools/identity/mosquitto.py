"""Starts mosquitto with the files of a fleet (aggregator/identity/broker_files.py)."""

from __future__ import annotations

from aggregator.identity.broker_files import BrokerFolder
from aggregator.identity.fleet_file import near
from fedsparse.errors import ConfigError, TransportError
from tools.broker import RunningBroker, find_mosquitto, free_port, launch


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
    return broker
