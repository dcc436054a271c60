"""A fleet on the gateway's disk: its folder, which is its owner's alone.

fleet.toml    what the operator decides (aggregator/identity/fleet_file.py)
fleet.db      who has which certificate (aggregator/store), unless `fleet.toml` names another store
authority/    the authority and the gateway's signing key (aggregator/identity/authority.py)
roles/        certificate and key of each process of the gateway, in one file each
broker/       what the fleet's broker reads, and its state (aggregator/identity/broker_files.py)
enrolment/    the same of the broker where devices enrol
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from aggregator.identity.authority import Authority
from aggregator.identity.broker_files import BrokerFolder, enrolment_broker, fleet_broker
from aggregator.identity.fleet_file import FILE, FleetConfig
from aggregator.identity.names import Role
from aggregator.store.database import FLEET, Store, open_store
from fedsparse.config import build, load
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError

LOCK: Final = ".lock"
TEMPLATE: Final = """\
# A fleet: who may talk to its broker. `fedsparse identity --help` says what can be done with it.
site = {site}
# Names and addresses by which devices reach the broker; they stand in its certificate.
# After a change: `fedsparse identity renew-broker`.
hosts = {hosts}
# store = "postgresql://user@host/database"  # default: fleet.db beside this file

[broker]
port = {port}
# address = "192.168.1.5"  # default: all that this machine has
# devices = 1000  # how many may be connected at once
# reload_command = ["systemctl", "reload", "mosquitto"]  # if `fedsparse broker` does not run it

[enrolment]
port = {enrolment_port}
service_port = {service_port}  # for `fedsparse identity serve`, on this machine only
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet, open; of one thread, as its store is.

    Attributes:
        folder: absolute.
        config: of its `fleet.toml`.
        authority: signs.
        store: the facts.
    """

    folder: Path
    config: FleetConfig
    authority: Authority
    store: Store

    @classmethod
    def create(
        cls,
        folder: Path,
        site: str,
        hosts: Sequence[str],
        now: datetime,
        *,
        ports: tuple[int, int, int] = (8883, 8884, 8885),
    ) -> Fleet:
        """Make a new fleet: its file, its authority and its store, but nothing for brokers yet.

        Args:
            folder: becomes its owner's alone; may be there, but without a fleet in it.
            site: its name.
            hosts: by which devices reach the broker.
            now: the time.
            ports: of the broker, of enrolment, and of the identity service.

        Raises:
            ConfigError: there is a fleet already, or the values make none.
        """
        table = {
            "site": site,
            "hosts": list(hosts),
            "broker": {"port": ports[0]},
            "enrolment": {"port": ports[1], "service_port": ports[2]},
        }
        build(FleetConfig, table, where="a new fleet", base=folder)
        if "\n" in str(folder.resolve()):
            raise ConfigError(f"{str(folder)!r}: mosquitto can read no folder of such a name")
        if (folder / FILE).exists():
            raise ConfigError(f"{folder / FILE}: there is a fleet already; choose another folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for broker in (fleet_broker(folder), enrolment_broker(folder)):
            broker.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            broker.path.chmod(0o700)
        Authority.create(folder, site, now)
        text = TEMPLATE.format(
            site=json.dumps(site),
            hosts=json.dumps(list(hosts)),
            port=ports[0],
            enrolment_port=ports[1],
            service_port=ports[2],
        )
        write_durably(folder / FILE, text.encode(), mode=0o600)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Fleet:
        """Read a fleet.

        Raises:
            ConfigError: there is none, or a file of it is missing, damaged or open to others.
            StoreError: the store cannot be opened.
        """
        if not (folder / FILE).exists():
            raise ConfigError(f"{folder}: no fleet; `fedsparse identity init {folder}` makes one")
        folder = folder.resolve()
        config = load(FleetConfig, folder / FILE)
        authority = Authority.open(folder)
        store = open_store(config.store or folder / FLEET)
        return cls(folder=folder, config=config, authority=authority, store=store)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    @property
    def broker(self) -> BrokerFolder:
        """What the fleet's broker reads."""
        return fleet_broker(self.folder)

    @property
    def enrolment(self) -> BrokerFolder:
        """What the enrolment broker reads."""
        return enrolment_broker(self.folder)

    def role_file(self, role: Role) -> Path:
        """Certificate and key of one process of the gateway."""
        return self.folder / "roles" / f"{role.text}.pem"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process change the brokers' files in this block; it waits for its turn."""
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
