"""A small fleet of real processes: broker, aggregator, devices; driven and watched by a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.checkpoint import generations, path_of
from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig
from aggregator.models.assembly import Imported
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from fedsparse.plan.zoo import PLANS
from fedsparse.transport.config import BrokerConfig
from tools.broker import Name, RunningBroker, start_broker
from tools.datasets.prepare import prepare
from tools.demo.events import EventTail
from tools.demo.processes import Children, last_lines, python_module
from tools.demo.toml_writer import to_toml

AGGREGATOR = "aggregator"
JOB = JobConfig(
    name="small",
    site="lab",
    plan=Path("plan.json"),
    output=Path("job"),
    rounds=3,
    method=MethodConfig(name="spdst", levels=(0.2, 0.1), sense_epochs=2, sense_devices=2),
    training=TrainingConfig(epochs=1, learning_rate=0.05, learning_rate_end=0.01, momentum=0.9),
    cohort=CohortConfig(
        min_devices=3, expected_devices=3, gather_s=60, deadline_s=120, offline_grace_s=60
    ),
)

Event = dict[str, Any]


class Fleet:
    """Processes that run one job on the digits; everything is ended on exit."""

    def __init__(
        self,
        folder: Path,
        job: JobConfig = JOB,
        *,
        broker: Name = "mosquitto",
        test_set: bool = True,
        imported: Imported | None = None,
        devices: Sequence[str] = ("device-0", "device-1", "device-2"),
        holdout: float = 0.2,
    ) -> None:
        self.folder = folder
        prepared = prepare("digits", folder / "data", devices=len(devices), seed=0, alpha=1.0)
        plan = PLANS["digits"]() if imported is None else imported.plan
        (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        if imported is not None and imported.graph is not None:
            (folder / "plan.graph").write_bytes(imported.graph.to_bytes())
        self.broker: RunningBroker = start_broker(folder / "broker", prefer=broker)
        address = BrokerConfig(host=self.broker.host, port=self.broker.port, keepalive_s=5)
        self.job = replace(
            job,
            plan=folder / "plan.json",
            output=folder / "job",
            broker=address,
            test_data=prepared.test if test_set else None,
        )
        (folder / "job.toml").write_text(to_toml(self.job), encoding="utf-8")
        self.devices = list(devices)
        self.samples = dict(zip(self.devices, prepared.devices, strict=True))
        for device, data in self.samples.items():
            client = ClientConfig(
                device=device,
                site=self.job.site,
                store=folder / device,
                data=DataConfig(path=data, holdout=holdout),
                broker=address,
                # The same to the bit in every run.
                budget=BudgetConfig(engine="graph" if plan.graph else "sparse"),
            )
            (folder / f"{device}.toml").write_text(to_toml(client), encoding="utf-8")
        self._children = Children(folder, folder / "logs")
        self._tail = EventTail(self.job.output / "events.jsonl")
        self.events: list[Event] = []

    def __enter__(self) -> Fleet:
        self._children.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._children.__exit__(*error)
        self.broker.stop()

    def start(self) -> None:
        """Start everything."""
        self.start_aggregator()
        for device in self.devices:
            self.start_device(device)

    def start_aggregator(self) -> None:
        job = str(self.folder / "job.toml")
        self._children.start(AGGREGATOR, python_module("tools.cli", "aggregator", job))

    def start_device(self, device: str) -> None:
        self._children.start(device, self.device_command(device))

    def device_command(self, device: str) -> list[str]:
        """What starts a device; the first word is its Python."""
        return python_module("edge_client.cli", "run", str(self.folder / f"{device}.toml"))

    def kill(self, name: str) -> None:
        """SIGKILL, to the process and what it started."""
        self._children.kill(name)

    def is_running(self, name: str) -> bool:
        """Whether a process has not ended."""
        return self._children[name].process.poll() is None

    def wait_for_exit(self, name: str) -> int:
        """The exit code of a process that ends by itself."""
        return self._children[name].process.wait(30)

    def restart_broker(self) -> None:
        """Kill the broker and start it again on the same port."""
        port = self.broker.port
        self.broker.process.kill()
        self.broker.process.wait()
        self.broker = start_broker(self.folder / "broker-again", port=port, prefer=self.broker.name)

    def wait_for(self, wanted: Callable[[Event], bool], *, within_s: float = 90.0) -> Event:
        """The first new event for which `wanted` holds; fails with the logs after `within_s`."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for event in self._tail.read():
                self.events.append(event)
                if wanted(event):
                    return event
            time.sleep(0.01)
        logs = "\n".join(
            f"--- {path.name}\n{last_lines(path)}"
            for path in sorted((self.folder / "logs").iterdir())
        )
        raise AssertionError(f"nothing of the kind within {within_s} s; {self.events[-5:]}\n{logs}")

    def wait_until_done(self) -> Event:
        """The end of the job."""
        return self.wait_for(lambda event: event["event"] == "job_done")

    def named(self, name: str) -> list[Event]:
        """All events of a name so far."""
        return [event for event in self.events if event["event"] == name]

    def result(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of the job's checkpoint but the description."""
        newest = path_of(self.job.output, generations(self.job.output)[0])
        with np.load(newest, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if name != "about"}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two results agree to the last bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
