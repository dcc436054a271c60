"""A fleet on this gateway: its files, and what runs out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from aggregator.identity.authority import Authority
from aggregator.identity.broker_files import BrokerFolder, enrolment_broker, fleet_broker
from aggregator.identity.fleet_file import FILE, FleetConfig
from aggregator.identity.moment import utc_now
from aggregator.identity.publishing import read_list
from aggregator.identity.running import process_of
from aggregator.store.database import FLEET
from aggregator.store.sqlite_file import BACKUP
from fedsparse.config import load
from fedsparse.doctor.dates import certificate_row
from fedsparse.doctor.machine import disk_row, folder_row
from fedsparse.doctor.moment import days, moment
from fedsparse.doctor.row import Row, fail, fault, ok, warn
from fedsparse.errors import ConfigError, FedSparseError
from tools.doctor.kept import store_rows

GONE: Final = "restore it from a backup of the folder, or enrol every device again"
LIST_SOON: Final = timedelta(days=7)
UPKEEP: Final = "fedsparse broker --fleet {folder} renews it daily while it runs"
ISSUE: Final = "fedsparse identity issue {role} --fleet {folder}"


def fleet_rows(folder: Path) -> Iterator[Row]:
    """Files and dates; nothing is opened that would be changed by that."""
    try:
        if not (folder / FILE).exists():
            raise ConfigError(f"{folder}: no fleet; `fedsparse identity init {folder}` makes one")
        config = load(FleetConfig, folder / FILE)
        Authority.open(folder)
    except FedSparseError as error:
        yield fault("fleet", error, f"restore {folder} from its backup, or correct the file")
        return
    yield ok("fleet", f"{folder}: the site {config.site}")
    yield folder_row("folder", folder)
    yield disk_row(folder)
    file = folder.resolve() / FLEET
    if not config.store and not file.exists() and not file.with_name(FLEET + BACKUP).exists():
        yield fail("store", f"{file}: it is gone, and with it who is in the fleet", GONE)
    else:
        yield from store_rows(config.store or file)
    now_s = time.time()
    broker = fleet_broker(folder)
    yield certificate_row(
        "authority", folder / "authority" / "ca.crt", now_s, "make a new fleet (docs/security.md)"
    )
    renew = f"fedsparse identity renew-broker --fleet {folder}"
    yield certificate_row("broker file", broker.identity, now_s, renew)
    for path in sorted((folder / "roles").glob("*.pem")):
        issue = ISSUE.format(role=path.stem, folder=folder)
        yield certificate_row(path.stem, path, now_s, issue)
    yield list_row(broker, folder)
    yield process_row("broker", broker, config, f"fedsparse broker --fleet {folder}")
    serve = f"fedsparse identity serve --fleet {folder}"
    yield process_row("enrolment", enrolment_broker(folder), None, serve)


def list_row(broker: BrokerFolder, folder: Path) -> Row:
    """The list of what is revoked: when it is past, the broker refuses everybody."""
    fix = f"fedsparse identity crl --fleet {folder}; {UPKEEP.format(folder=folder)}"
    present = read_list(broker.crl)
    if present is None or present.next_update_utc is None:
        return fail("revocation", f"{broker.crl}: no list: the broker does not start", fix)
    end, now = present.next_update_utc, utc_now()
    value = f"{len(list(present))} revoked; the list is good until {moment(end.timestamp())}"
    if end <= now:
        return fail("revocation", f"{value}: past, and the broker refuses everybody", fix)
    if end - now < LIST_SOON:
        left = days((end - now).total_seconds())
        return warn("revocation", f"{value}: in {left} the broker refuses everybody", fix)
    return ok("revocation", value)


def process_row(name: str, broker: BrokerFolder, config: FleetConfig | None, start: str) -> Row:
    """Whether a broker runs with these files.

    Args:
        name: of the check.
        broker: its files.
        config: the fleet's, of the broker that must run; None of the one that may.
        start: what starts it.
    """
    if (pid := process_of(broker)) is not None:
        return ok(name, f"runs: process {pid}")
    if config is None:
        return ok(name, f"does not run; devices can enrol and renew while it does: {start}")
    if config.broker.reload_command:
        return ok(name, "is run by another program than ours")
    return warn(name, f"does not run; {broker.log} is its log", start)
