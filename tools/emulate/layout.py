"""The files of a run: samples, plan, `job.toml`, one `client.toml` a device, all as real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from aggregator.job import CohortConfig, JobConfig
from edge_client.budget.correction import TRAINER_START_S
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from edge_client.emulation.scale import TimeScale
from fedsparse.errors import ConfigError
from fedsparse.plan.zoo import PLANS
from fedsparse.transport.config import BrokerConfig
from tools.datasets.prepare import prepare
from tools.demo.toml_writer import to_toml
from tools.emulate.devices import Device, write_believed
from tools.emulate.fleet_file import MEASURED, PROFILE, Fleet

SITE: Final = "emulated"
KEEPALIVE_S: Final = 60.0  # of the board
LEAST_KEEPALIVE_S: Final = 5
EVENTS: Final = "events.jsonl"
JOB: Final = "job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything is.

    Attributes:
        output: the folder of the run.
        job_file, job_events: of the aggregator.
        samples: each device's file.
    """

    output: Path
    job_file: Path
    samples: Mapping[str, Path]

    @property
    def job_events(self) -> Path:
        """The aggregator's diary."""
        return self.output / JOB / EVENTS

    @property
    def events(self) -> Path:
        """The diary of the run."""
        return self.output / EVENTS

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.output / "logs"

    def store(self, device: str) -> Path:
        """A device's store."""
        return self.output / "devices" / device / "store"

    def client_file(self, device: str) -> Path:
        """A device's `client.toml`."""
        return self.output / "devices" / device / "client.toml"


def lay_out(
    fleet: Fleet,
    output: Path,
    scale: TimeScale,
    broker: BrokerConfig,
    *,
    late: int,
    say: Callable[[str], None],
) -> Layout:
    """Write samples, plan and `job.toml` into the empty output folder.

    Args:
        fleet: what is trained by whom.
        output: absolute.
        scale: deadlines and patience of the job are on this host's clock.
        broker: as the aggregator finds it.
        late: how many devices are not there from the start.
        say: is told of what takes time.
    """
    say(f"preparing the data set '{fleet.job.dataset}' for {len(fleet.devices)} devices")
    prepared = prepare(
        fleet.job.dataset,
        output / "data",
        devices=len(fleet.devices),
        seed=fleet.seed,
        alpha=fleet.job.alpha,
        samples=fleet.job.samples,
    )
    parts = dict(zip(fleet.devices, prepared.devices, strict=True))
    for number, (device, path) in enumerate(parts.items()):
        _keep_share(path, fleet.group_of(device).data_share, seed=1000 * fleet.seed + number)
    _keep(prepared.test, fleet.job.test_samples, seed=fleet.seed)
    own = {device: fleet.group_of(device).data for device in fleet.devices}
    (output / JOB).mkdir()
    plan = output / "plan.json"
    plan.write_text(PLANS[fleet.job.dataset]().to_json(), encoding="utf-8")
    job = job_config(fleet, output, plan, prepared.test, broker, scale, late)
    job_file = output / "job.toml"
    job_file.write_text(to_toml(job), encoding="utf-8")
    samples = {device: own[device] or path for device, path in parts.items()}
    return Layout(output=output, job_file=job_file, samples=samples)


def write_client(
    layout: Layout, device: Device, broker: BrokerConfig, scale: TimeScale, figures: str
) -> Path:
    """Write a device's `client.toml`; `broker` is where the device finds it."""
    board = layout.output / "boards"
    profile = write_believed(device, scale, board) if figures == PROFILE else None
    config = ClientConfig(
        device=device.name,
        site=SITE,
        store=layout.store(device.name),
        profile=profile,
        policy=device.group.policy,
        data=DataConfig(path=layout.samples[device.name]),
        broker=broker,
        budget=BudgetConfig(
            engine="sparse",  # reproducible
            memory_fraction=device.group.memory_fraction,
        ),
    )
    path = layout.client_file(device.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(config), encoding="utf-8")
    return path


def host_deadline_s(fleet: Fleet, scale: TimeScale) -> float:
    """A fleet's deadline on this host's clock.

    A device that takes itself for its board allows a constant time for the start of a trainer,
    whatever its clock: that part is not scaled, so that it chooses the level that it would choose
    on its board. One that measures itself learns how long that takes.
    """
    deadline_s = fleet.job.deadline_s
    if fleet.figures == MEASURED or deadline_s <= TRAINER_START_S:
        return scale.host_s(deadline_s)
    return TRAINER_START_S + scale.host_s(deadline_s - TRAINER_START_S)


def keepalive_s(scale: TimeScale) -> int:
    """Seconds of this host between signs of life; MQTT has no less than some."""
    return max(LEAST_KEEPALIVE_S, min(3600, round(scale.host_s(KEEPALIVE_S))))


def job_config(
    fleet: Fleet,
    output: Path,
    plan: Path,
    test_data: Path,
    broker: BrokerConfig,
    scale: TimeScale,
    late: int,
) -> JobConfig:
    """The job on this host's clock."""
    job, count = fleet.job, len(fleet.devices)
    least = job.min_devices or max(1, (count - late) // 2)
    return JobConfig(
        name=fleet.name,
        site=SITE,
        plan=plan,
        output=output / JOB,
        rounds=job.rounds,
        seed=fleet.seed,
        test_data=test_data,
        broker=broker,
        method=job.method,
        training=job.training,
        cohort=CohortConfig(
            min_devices=least,
            expected_devices=count - late,
            participation=job.participation,
            gather_s=scale.host_s(job.gather_s),
            deadline_s=host_deadline_s(fleet, scale),
            offline_grace_s=scale.host_s(job.offline_grace_s),
        ),
    )


def _keep_share(path: Path, share: float, seed: int) -> None:
    """Keep a share of a device's samples."""
    if share == 1:
        return
    with np.load(path) as file:
        have = len(file["y"])
    count = round(share * have)
    if count < 2:
        raise ConfigError(f"data_share {share:g} leaves {path.stem} {count} of {have} samples")
    _keep(path, count, seed)


def _keep(path: Path, count: int | None, seed: int) -> None:
    """Keep so many samples at most, drawn at random, in their order; None = all."""
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    if count is None or count >= len(y):
        return
    kept = np.sort(np.random.default_rng(seed).choice(len(y), count, replace=False))
    np.savez(path, x=x[kept], y=y[kept])
