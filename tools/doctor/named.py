"""`job.toml`, and every file that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from aggregator.cli import load_plan
from aggregator.job import JobConfig
from aggregator.models.weights import load_weights
from edge_client.data.header import count_samples
from fedsparse.doctor.row import Row, fault, ok
from fedsparse.errors import FedSparseError


def named_rows(path: Path, job: JobConfig) -> Iterator[Row]:
    """What the job says, and whether the files are there and make sense."""
    yield ok("config", f"{path}: job {job.name} of the site {job.site}")
    yield _checked("plan", lambda: _plan(job.plan), "correct `plan`")
    if job.test_data is not None:
        data = job.test_data
        yield _checked("test data", lambda: _samples(data), "correct `test_data`")
    if job.weights is not None:
        weights = job.weights
        yield _checked("weights", lambda: _weights(job.plan, weights), "correct `weights`")


def _checked(name: str, look: Callable[[], str], otherwise: str) -> Row:
    try:
        return ok(name, look())
    except FedSparseError as error:
        return fault(name, error, otherwise)


def _plan(path: Path) -> str:
    plan = load_plan(path)
    return f"{path}: {plan.num_prunable} weights that can be pruned"


def _samples(path: Path) -> str:
    count, shape, dtype = count_samples(path)
    return f"{path}: {count} of shape {shape}, {dtype}"


def _weights(plan: Path, path: Path) -> str:
    load_weights(path, load_plan(plan))
    return f"{path}: they fit the plan"
