"""What mosquitto reads: its configuration and its access files, as texts and as files.

broker/      the fleet's broker: mutual TLS, one identity a process
enrolment/   a second process, for devices that have no certificate yet

They are two processes because client ids are one name space in a broker: a stranger could take the
client id of a device, and so throw it off and delete its session. For the same reason the identity
service has to come to the second one under a client id that nobody can guess, and a new one
each time.

Source: mosquitto.conf(5).
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aggregator.identity.acl import HEAD, enrolment_service_acl, strangers_acl
from aggregator.identity.fleet_file import LOOPBACK, FleetConfig
from fedsparse.durable import write_secret

OWN_PROCESSES: Final = 16  # connections of the gateway's own processes, beside the devices
STRANGERS: Final = 64  # who enrol at the same moment

# The packet size is the default of mosquitto 2.1, the same under 2.0. 256 messages in flight: the
# gateway acknowledges a batch at a time, when it is on the disk.
FLEET_CONF: Final = """\
{head}
user {user}
per_listener_settings true
persistence true
persistence_location {folder}/data/
persistent_client_expiration 14d
autosave_interval 60
pid_file {folder}/mosquitto.pid
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
connection_messages false
max_packet_size 2000000
max_inflight_messages 256
max_queued_messages 20000
max_queued_bytes 64000000

listener {listener}
max_connections {connections}
cafile {folder}/ca.crt
certfile {folder}/broker.pem
keyfile {folder}/broker.pem
crlfile {folder}/crl.pem
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/acl
"""

ENROLMENT_CONF: Final = """\
{head}
user {user}
per_listener_settings true
persistence false
persistent_client_expiration 1h
pid_file {folder}/mosquitto.pid
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
connection_messages false
max_packet_size 16384
max_inflight_messages 20
max_queued_messages 100
memory_limit 64000000

listener {listener}
max_connections {strangers}
certfile {folder}/broker.pem
keyfile {folder}/broker.pem
tls_version tlsv1.3
allow_anonymous true
allow_zero_length_clientid false
acl_file {folder}/acl-strangers

listener {service_listener}
max_connections 4
cafile {folder}/ca.crt
certfile {folder}/broker.pem
keyfile {folder}/broker.pem
crlfile {folder}/crl.pem
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl-service
"""

# A session that is resumed is one whose certificate is not looked at again. So none is offered; and
# TLS 1.2, where sessions can also be resumed without a ticket, is not spoken: every Python that can
# run a device speaks 1.3.
OPENSSL_CONF: Final = """\
openssl_conf = fedsparse
[fedsparse]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
Options = -SessionTicket
NumTickets = 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFolder:
    """The folder of one broker process.

    Attributes:
        path: absolute, for mosquitto takes relative paths from where it was started.
    """

    path: Path

    @property
    def data(self) -> Path:
        """Its sessions and what it retains."""
        return self.path / "data"

    @property
    def conf(self) -> Path:
        """With what `mosquitto -c` is started."""
        return self.path / "mosquitto.conf"

    @property
    def openssl_conf(self) -> Path:
        """For the variable OPENSSL_CONF of its environment."""
        return self.path / "openssl.cnf"

    @property
    def pid(self) -> Path:
        """Its process, while it runs."""
        return self.path / "mosquitto.pid"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.path / "mosquitto.log"

    @property
    def crl(self) -> Path:
        """The revocation list, as PEM."""
        return self.path / "crl.pem"

    @property
    def acl(self) -> Path:
        """The access file of the fleet's broker."""
        return self.path / "acl"

    @property
    def authority(self) -> Path:
        """The authority's certificate, as PEM."""
        return self.path / "ca.crt"

    @property
    def identity(self) -> Path:
        """The broker's certificate and key in one file, so that both change at once."""
        return self.path / "broker.pem"


def fleet_broker(fleet: Path) -> BrokerFolder:
    """Where the fleet's broker has its files."""
    return BrokerFolder(path=fleet.resolve() / "broker")


def enrolment_broker(fleet: Path) -> BrokerFolder:
    """Where the enrolment broker has its files."""
    return BrokerFolder(path=fleet.resolve() / "enrolment")


def fleet_broker_texts(folder: BrokerFolder, config: FleetConfig) -> dict[Path, str]:
    """What `fleet.toml` says, as the fleet's broker reads it."""
    conf = FLEET_CONF.format(
        head=HEAD,
        user=getpass.getuser(),
        folder=folder.path,
        listener=_listener(config.broker.port, config.broker.address),
        connections=config.broker.devices + OWN_PROCESSES,
    )
    return {folder.conf: conf, folder.openssl_conf: OPENSSL_CONF}


def enrolment_broker_texts(folder: BrokerFolder, config: FleetConfig) -> dict[Path, str]:
    """What `fleet.toml` says, as the enrolment broker reads it, and its access files."""
    conf = ENROLMENT_CONF.format(
        head=HEAD,
        user=getpass.getuser(),
        folder=folder.path,
        listener=_listener(config.enrolment.port, config.enrolment.address),
        strangers=STRANGERS,
        service_listener=_listener(config.enrolment.service_port, LOOPBACK),
    )
    return {
        folder.conf: conf,
        folder.openssl_conf: OPENSSL_CONF,
        folder.path / "acl-strangers": strangers_acl(),
        folder.path / "acl-service": enrolment_service_acl(),
    }


def write_broker_identity(folder: BrokerFolder, certificate: bytes, key: bytes) -> None:
    """Give a broker its certificate and key (PEM), both at once."""
    write_secret(folder.identity, certificate + key)


def _listener(port: int, address: str) -> str:
    return f"{port} {address}".rstrip()
