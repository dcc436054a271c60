"""All checks of a gateway: a job with what it keeps, and its fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aggregator.identity.fleet import Fleet
from aggregator.job import JobConfig
from edge_client.probe.memory import read_memory
from fedsparse.config import load
from fedsparse.doctor.machine import disk_row, memory_row, versions_row
from fedsparse.doctor.row import Row, Verdict, fault
from fedsparse.errors import FedSparseError
from tools.doctor.broker import fleet_broker_rows, job_broker_rows
from tools.doctor.fleet import fleet_rows
from tools.doctor.kept import kept_rows, runs
from tools.doctor.named import named_rows

PACKAGES: Final = ("paho-mqtt", "cbor2", "numpy", "cryptography", "sqlalchemy", "alembic", "onnx")


def gateway_rows(place: Path) -> Iterator[Row]:
    """All checks of a job, or of a fleet where a folder is given."""
    yield from _fleet_rows(place) if place.is_dir() else _job_rows(place)
    memory = read_memory()
    yield memory_row(memory.available_bytes, memory.source)
    yield versions_row(PACKAGES)


def _job_rows(path: Path) -> Iterator[Row]:
    try:
        job = load(JobConfig, path)
    except FedSparseError as error:
        yield fault("config", error, f"correct {path}; docs/by-hand.md has an example")
        return
    yield from named_rows(path, job)
    busy = runs(job.output)
    yield from kept_rows(path, job, busy=busy)
    yield disk_row(job.output)
    if job.fleet is not None:
        yield from _fleet_rows(job.fleet, None if busy else job)
    else:
        yield from job_broker_rows(job, busy=busy)


def _fleet_rows(folder: Path, job: JobConfig | None = None) -> Iterator[Row]:
    """Those of a fleet; with a job, also what this may do on the fleet's broker."""
    rows = []
    for row in fleet_rows(folder):
        rows.append(row)
        yield row
    if any(row.name in ("fleet", "store") and row.verdict is not Verdict.OK for row in rows):
        return  # to open it would change it
    try:
        with Fleet.open(folder) as fleet:
            yield from fleet_broker_rows(fleet, job)
    except FedSparseError as error:
        yield fault("fleet", error, "restore the fleet's folder from its backup")
