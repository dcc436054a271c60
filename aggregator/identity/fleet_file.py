"""`fleet.toml`: what an operator decides about a fleet."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from fedsparse.wire.messages import NAME

FILE: Final = "fleet.toml"
HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")
LOOPBACK: Final = "127.0.0.1"
ALWAYS: Final = ("localhost", LOOPBACK)  # by which the gateway's own processes know the broker


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBroker:
    """The `[broker]` table.

    Attributes:
        address: on which it listens; empty: on all that the machine has.
        port: for devices and the gateway; a certificate is demanded.
        devices: how many may be connected at once.
        reload_command: what makes the broker read its files again, where it is not started by
            `fedsparse broker`, such as `["systemctl", "reload", "mosquitto"]`.
    """

    address: str = ""
    port: int = 8883
    devices: int = 1000
    reload_command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_address(self.address)
        _check_port("port", self.port)
        if not 1 <= self.devices <= 100_000:
            raise ValueError(f"devices must be 1 to 100000, got {self.devices}")

    @property
    def near(self) -> tuple[str, int]:
        """Address and port by which this machine's own processes reach it."""
        return near(self.address), self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEnrolment:
    """The `[enrolment]` table.

    Attributes:
        address: on which the enrolment broker listens; empty: on all that the machine has.
        port: for devices that have no certificate yet.
        service_port: for the identity service, on this machine only.
    """

    address: str = ""
    port: int = 8884
    service_port: int = 8885

    def __post_init__(self) -> None:
        _check_address(self.address)
        _check_port("port", self.port)
        _check_port("service_port", self.service_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """A fleet.

    Attributes:
        site: its name, a level of every topic.
        hosts: names and addresses under which devices reach the broker; they stand in its
            certificate, and devices refuse a broker that they know by another.
        store: URL of the database of facts; empty: a file in the fleet's folder.
    """

    site: str
    hosts: tuple[str, ...]
    store: str = ""
    broker: FleetBroker = field(default_factory=FleetBroker)
    enrolment: FleetEnrolment = field(default_factory=FleetEnrolment)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.site):
            raise ValueError(
                f"site must be 1 to 64 letters, digits, '_', '.' or '-', got {self.site!r}"
            )
        if not self.hosts:
            raise ValueError("hosts must name at least one name or address of the broker")
        for host in self.hosts:
            if not _is_address(host) and not (HOST.fullmatch(host) and len(host) <= 253):
                raise ValueError(f"hosts: {host!r} is neither a host name nor an address")
        ports = (self.broker.port, self.enrolment.port, self.enrolment.service_port)
        if len(set(ports)) < len(ports):
            raise ValueError(f"the three ports must differ, got {ports}")

    @property
    def certified_hosts(self) -> tuple[str, ...]:
        """All names and addresses of the broker's certificate, each once, in one spelling."""
        return tuple(dict.fromkeys(_one_spelling(host) for host in (*self.hosts, *ALWAYS)))


def near(address: str) -> str:
    """Where this machine reaches what listens on an address, which may be all that it has."""
    if not address or not ipaddress.ip_address(address).is_unspecified:
        return address or LOOPBACK
    return LOOPBACK if ipaddress.ip_address(address).version == 4 else "::1"


def _check_port(key: str, port: int) -> None:
    if not 0 < port < 65536:
        raise ValueError(f"{key} must be 1 to 65535, got {port}")


def _check_address(address: str) -> None:
    if address and not _is_address(address):
        raise ValueError(f"address must be an IP address of this machine, got {address!r}")


def _one_spelling(host: str) -> str:
    return str(ipaddress.ip_address(host)) if _is_address(host) else host.lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
