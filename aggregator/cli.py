"""Running one job from its `job.toml`, until its models are exported."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from aggregator.events import EVENTS, EventLog
from aggregator.job import JobConfig
from aggregator.models.graph_file import graph_to_onnx, load_graph
from aggregator.models.to_onnx import to_onnx
from aggregator.models.weights import tensors_by_name
from aggregator.rounds import Aggregator
from aggregator.run import run_in
from aggregator.store.database import FLEET, Store, open_store
from aggregator.store.jobs import StoredJob, enter_job
from aggregator.updates import largest_update_bytes
from fedsparse.config import load
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Plan
from fedsparse.stopping import Stopped, stopped_by_signals
from fedsparse.transport.channel import Channel
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.transport.trust import Trust
from fedsparse.wire.topics import Topics

log = logging.getLogger("aggregator")

EXIT_DONE: Final = 0
EXIT_STOPPED: Final = 3
LOCK: Final = ".lock"


def serve(path: Path) -> int:
    """Run the job of `job.toml`; one that was stopped goes on where it was.

    Returns:
        0 when the job is done, 3 when a signal stopped it.

    Raises:
        FedSparseError: a file is at fault, or the broker cannot be reached.
    """
    job = load(JobConfig, path)
    if job.fleet is not None:
        from aggregator.identity.joining import in_fleet  # a job without one needs none of it

        job = in_fleet(job, datetime.now(timezone.utc))
    plan = load_plan(job.plan)
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output {job.output}: cannot be created: {error}") from error
    try:
        with _alone(job.output):
            return _run(job, plan, store_of(job, path))
    except OSError as error:
        raise ConfigError(
            f"output {job.output}: {error}; make room or mend the disk, then start the job "
            "again: it goes on where it was"
        ) from error


def store_of(job: JobConfig, path: Path) -> str | Path:
    """The fleet's store; a file is named as seen from the job's."""
    if not job.store and job.fleet is not None:
        from aggregator.identity.joining import store_of  # a job without one needs none of it

        return store_of(job.fleet)
    if not job.store:
        return job.output / FLEET
    return job.store if "://" in job.store else path.resolve().parent / job.store


def _run(job: JobConfig, plan: Plan, where: str | Path) -> int:
    with _trust(job) as trust:
        return _run_trusting(job, plan, where, trust)


def _trust(job: JobConfig) -> AbstractContextManager[Trust | None]:
    if job.fleet is None:
        return nullcontext()
    from aggregator.identity.joining import trust_in_fleet  # a job without one needs none of it

    return trust_in_fleet(job.fleet)


def _run_trusting(job: JobConfig, plan: Plan, where: str | Path, trust: Trust | None) -> int:
    transport = MqttTransport(job.broker, client_id=f"gateway/{job.site}/{job.name}")
    channel = Channel(
        transport,
        Topics(job.site),
        spool=job.output / "incoming",
        options=ChannelOptions(limits=Limits(transfer_bytes=largest_update_bytes(plan))),
        trust=trust,
    )
    with (
        stopped_by_signals(),
        EventLog(job.output / EVENTS) as events,
        open_store(where) as store,
    ):
        try:
            if store.recovered:
                events.write("store_recovered", reason=store.recovered)
            aggregator = Aggregator(job, plan, channel, events, notes_of(job, plan, store))
            channel.start()
            aggregator.run()
            _finish(job, plan, aggregator, events)
        except Stopped:
            log.info("stopping=yes; start the same job again, and it goes on")
            return EXIT_STOPPED
        finally:
            channel.close()
    return EXIT_DONE


def notes_of(job: JobConfig, plan: Plan, store: Store) -> StoredJob:
    """What the store knows of the run in the job's folder."""
    now_ms = round(time.time() * 1000)
    run = run_in(job.output, now_ms)
    with store.writing() as db:
        job_id = enter_job(
            db,
            run=run.number,
            name=job.name,
            method=job.method.name,
            plan_digest=plan.digest,
            now_ms=run.started_ms,
        )
    return StoredJob(store, job_id)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let no second aggregator work in this folder; the lock goes with the process."""
    with (output / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another aggregator works in {output}: stop it first") from error
        yield


def _finish(job: JobConfig, plan: Plan, aggregator: Aggregator, events: EventLog) -> None:
    """Write a model for each level that devices have trained."""
    state = aggregator.model.state
    graph = load_graph(job.plan, plan)
    paths = []
    for level in aggregator.trained_levels:
        weights, mask = state.weights_at(level), state.masks[level]
        if graph is None or not plan.is_opaque:
            model = to_onnx(plan, weights, mask)
        else:
            model = graph_to_onnx(graph, tensors_by_name(plan, weights, mask))
        target = job.output / f"model-{level:g}.onnx"
        write_durably(target, model.SerializeToString())
        paths.append(str(target))
        log.info("exported=%s", target)
    scores = aggregator.scores.fields()
    events.write("job_done", **scores, onnx=paths, evaluated_on=aggregator.evaluated_on)


def load_plan(path: Path) -> Plan:
    """The model that a job trains.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        return Plan.from_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"plan {path}: cannot be read ({error.strerror}); "
            "`fedsparse model import` writes one from a torch or ONNX model"
        ) from error
    except PlanError as error:
        raise ConfigError(f"plan {path}: {error}") from error
