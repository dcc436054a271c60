"""The bytes of a round on the socket, against the values alone.

Real aggregator, real client, real broker; the client's connection goes through a proxy that counts
what TCP carries. A short and a long run of the same job differ by whole rounds and by nothing else,
so their difference is what a round costs: offer, answer, task, update, receipt, and every
acknowledgement.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig, ValuesConfig
from edge_client.bench.race import WorkerError
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from edge_client.emulation.confine import confine
from edge_client.emulation.link import Link
from edge_client.emulation.report import Mechanism
from fedsparse.plan import Plan
from fedsparse.plan.finding import find_plan
from fedsparse.transport.config import BrokerConfig
from tools.broker import start_broker
from tools.demo.processes import Children, last_lines, python_module
from tools.demo.toml_writer import to_toml

MOST_OVERHEAD: Final = 0.03
MODEL: Final = "mnist"
DEVICE: Final = "device"
AGGREGATOR: Final = "aggregator"
SHORT: Final = 2  # rounds: the first brings plan and mask
SAMPLES: Final = 40
PATIENCE_S: Final = 240.0
POLL_S: Final = 0.05
VALUE_BYTES: Final = 4  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBytes:
    """A round of one device, both ways, values as float32.

    Attributes:
        model, parameters: what is trained; `density` of its prunable weights.
        rounds: that were measured.
        up_bytes, down_bytes: TCP payload of a round.
        ideal_bytes: of the values that go one way: kept and dense ones.
    """

    model: str
    parameters: int
    density: float
    rounds: int
    up_bytes: float
    down_bytes: float
    ideal_bytes: int

    @property
    def overhead(self) -> float:
        """What a round takes beyond its values, as a share of these."""
        return (self.up_bytes + self.down_bytes) / (2 * self.ideal_bytes) - 1

    @property
    def holds(self) -> bool:
        """Whether that is little."""
        return self.overhead <= MOST_OVERHEAD

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "overhead": self.overhead, "holds": self.holds}


def measure_round_bytes(density: float, rounds: int, folder: Path) -> RoundBytes:
    """Run a job twice, once for `rounds` longer.

    Args:
        density: kept fraction; 1.0 is dense federated averaging.
        rounds: the difference.
        folder: for both runs.

    Raises:
        WorkerError: a process ended early.
        ConfigError: mosquitto is not installed.
    """
    plan = find_plan(MODEL)
    short = _run(plan, density, SHORT, folder / "short")
    long = _run(plan, density, SHORT + rounds, folder / "long")
    return RoundBytes(
        model=MODEL,
        parameters=plan.num_prunable + plan.num_dense,
        density=density,
        rounds=rounds,
        up_bytes=(long[0] - short[0]) / rounds,
        down_bytes=(long[1] - short[1]) / rounds,
        ideal_bytes=VALUE_BYTES * (plan.kept(density) + plan.num_dense),
    )


def _run(plan: Plan, density: float, rounds: int, folder: Path) -> tuple[int, int]:
    """Bytes up and down of a whole job."""
    folder.mkdir(parents=True)
    broker = start_broker(folder / "broker", prefer="mosquitto")
    try:
        with (
            confine(link=Link(), avoid=[Mechanism.NAMESPACE]) as place,
            Children(folder, folder / "logs") as children,
        ):
            address = BrokerConfig(host=broker.host, port=broker.port)
            job = _write_job(plan, density, rounds, folder, address)
            host, port = place.reach(broker.host, broker.port)
            client = _write_client(plan, folder, BrokerConfig(host=host, port=port))
            arguments = ("aggregator", str(job), "--log-level", "warning")
            children.start(AGGREGATOR, python_module("tools.cli", *arguments))
            children.start(DEVICE, python_module("edge_client.cli", "run", str(client)))
            _await_end(children)
            usage = place.usage()
            return usage.up_bytes or 0, usage.down_bytes or 0
    finally:
        broker.stop()


def _write_job(plan: Plan, density: float, rounds: int, folder: Path, broker: BrokerConfig) -> Path:
    (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    job = JobConfig(
        name="bytes",
        site="bench",
        plan=folder / "plan.json",
        output=folder / "job",
        rounds=rounds,
        broker=broker,
        method=MethodConfig(name="dense" if density == 1.0 else "pdst", levels=(density,)),
        training=TrainingConfig(learning_rate=0.01),
        values=ValuesConfig(up="f32", down="f32"),
        cohort=CohortConfig(min_devices=1, expected_devices=1, gather_s=120.0, deadline_s=300.0),
    )
    path = folder.resolve() / "job.toml"
    path.write_text(to_toml(job), encoding="utf-8")
    return path


def _write_client(plan: Plan, folder: Path, broker: BrokerConfig) -> Path:
    draw = np.random.default_rng(0)
    data = folder / "samples.npz"
    np.savez(
        data,
        x=draw.standard_normal((SAMPLES, *plan.input_shape), np.float32),
        y=draw.integers(0, 10, SAMPLES),
    )
    client = ClientConfig(
        device=DEVICE,
        site="bench",
        store=folder / "store",
        data=DataConfig(path=data, holdout=0.0),
        broker=broker,
        budget=BudgetConfig(engine="sparse"),
    )
    path = folder.resolve() / "client.toml"
    path.write_text(to_toml(client), encoding="utf-8")
    return path


def _await_end(children: Children) -> None:
    """Return when the aggregator is done."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        for child in children.ended():
            if child is not children[AGGREGATOR] or child.process.returncode:
                raise WorkerError(f"{child.name} ended early:\n{last_lines(child.log)}")
            return
        time.sleep(POLL_S)
    raise WorkerError(f"no end after {PATIENCE_S:.0f} s: see {children[AGGREGATOR].log}")
