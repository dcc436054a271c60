"""What `fedsparse identity` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aggregator.identity.fleet import Fleet
from aggregator.identity.moment import from_ms, to_ms
from aggregator.identity.names import ROLE_MARK
from aggregator.identity.publishing import read_list
from aggregator.identity.revocation import OPERATOR
from aggregator.store import certificates, devices

ROW: Final = "{:<24}  {:<8}  {:<16}  {}"
HEADS: Final = ("name", "", "certificate till", "")
SOON: Final = timedelta(days=14)


def told_of_a_new_fleet(fleet: Fleet, folder: Path) -> Iterator[str]:
    """What an operator does next."""
    config = fleet.config
    option = "" if str(folder) == "fleet" else f" --fleet {folder}"
    yield f"fleet:        {config.site}, in {fleet.folder}"
    yield f"fingerprint:  {fleet.authority.fingerprint}"
    yield f"broker:       port {config.broker.port}, devices enrol on {config.enrolment.port}"
    yield "next:"
    yield f"  fedsparse broker --fleet {folder}"
    yield f"  fedsparse identity issue gateway.JOB{option}"
    yield f"Keep {fleet.folder / 'authority'} safe: whoever has it can let anybody in."


def broker_table(fleet: Fleet, path: Path) -> Iterator[str]:
    """The tables of a `job.toml` that let a process of the gateway in."""
    yield "[broker]"
    yield f"host = {json.dumps(fleet.config.broker.near[0])}"
    yield f"port = {fleet.config.broker.port}"
    yield ""
    yield "[broker.tls]"
    yield f"ca = {json.dumps(str(fleet.folder / 'authority' / 'ca.crt'))}"
    yield f"certificate = {json.dumps(str(path))}"
    yield f"key = {json.dumps(str(path))}"


def list_line(fleet: Fleet) -> str:
    """One line about the revocation list that the broker has."""
    present = read_list(fleet.broker.crl)
    if present is None or present.next_update_utc is None:
        return "no revocation list: run `fedsparse identity crl`"
    count, end = len(list(present)), _date(present.next_update_utc)
    return f"revocation list: {count} certificates, good till {end}"


def fleet_document(fleet: Fleet, now: datetime) -> dict[str, Any]:
    """Everything that `list` shows."""
    with fleet.store.reading() as db:
        live = certificates.live(db, to_ms(now))
        known = devices.everyone(db)
    last = {one.device: from_ms(one.not_after_ms) for one in live}  # the newest of each comes last
    names = {one.name for one in known}
    services = [name for name in sorted(last) if name not in names and name != OPERATOR.common_name]
    present = read_list(fleet.broker.crl)
    end = present.next_update_utc if present is not None else None
    return {
        "site": fleet.config.site,
        "fingerprint": fleet.authority.fingerprint,
        "authority_till": _date(fleet.authority.certificate.not_valid_after_utc),
        "crl_till": None if end is None else _date(end),
        "crl": list_line(fleet),
        "devices": [
            _row(one.name, one.state.value, last.get(one.name), now, board=one.board)
            for one in known
        ],
        "services": [
            _row(name.removeprefix(ROLE_MARK), "service", last[name], now) for name in services
        ],
    }


def fleet_lines(document: dict[str, Any]) -> Iterator[str]:
    """The document as a table."""
    yield f"fleet {document['site']}, authority {document['fingerprint']}"
    yield f"good till {document['authority_till']}; {document['crl']}"
    yield ""
    yield ROW.format(*HEADS)
    for one in (*document["services"], *document["devices"]):
        till = one["till"] or "-"
        yield ROW.format(one["name"], one["state"], till, one["remark"])
    if not document["devices"]:
        yield "No device has enrolled yet."


def _row(
    name: str, state: str, till: datetime | None, now: datetime, *, board: str = ""
) -> dict[str, Any]:
    remark = board
    if till is not None and till - now < SOON:
        remark = "ends soon" if not board else f"{board}; ends soon"
    return {
        "name": name,
        "state": state,
        "till": None if till is None else _date(till),
        "remark": remark,
    }


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")
