"""What the clients of a load test train: values that anybody can compute again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.transport.config import BrokerConfig
from fedsparse.types import Float32Array

SITE: Final = "load"
JOB: Final = "load"
LEVEL: Final = 0.1
PATIENCE_S: Final = 600.0  # of a round: it is to show what is slow, not to give it up
CODEC: Final = "f32"


def load_plan() -> Plan:
    """Some 25,000 weights, of which a tenth travels: 10 kB an update."""
    model = PlanBuilder("load", (100,))
    model.linear("first", 200)
    model.relu()
    model.linear("last", 25)
    return model.build()


def load_config(output: Path, plan: Path, port: int, clients: int, rounds: int) -> JobConfig:
    """A job whose masks stay and whose rounds take all clients."""
    return JobConfig(
        name=JOB,
        site=SITE,
        plan=plan,
        output=output,
        rounds=rounds,
        broker=BrokerConfig(port=port),
        method=MethodConfig(name="pdst", levels=(LEVEL,), rotate_levels=False),
        training=TrainingConfig(),
        values=ValuesConfig(up=CODEC, down=CODEC),
        cohort=CohortConfig(
            min_devices=clients,
            expected_devices=clients,
            gather_s=PATIENCE_S,
            deadline_s=PATIENCE_S,
        ),
    )


@dataclass(frozen=True, slots=True)
class LoadClient:
    """One of the clients, by its number."""

    number: int

    @property
    def name(self) -> str:
        """Of the device."""
        return f"load-{self.number:04}"

    @property
    def num_examples(self) -> int:
        """Its weight in the mean."""
        return 1 + self.number % 50

    def values(self, round_id: int, count: int) -> Float32Array:
        """`(count,)`: what it sends in a round."""
        rng = np.random.default_rng([self.number, round_id])
        return rng.standard_normal(count, np.float32)


def mean_of(clients: int, round_id: int, count: int) -> Float32Array:
    """`(count,)`: the mean of all clients' values, by their examples; what the fold must find."""
    total, weight = np.zeros(count), 0
    for client in map(LoadClient, range(clients)):
        total += client.num_examples * client.values(round_id, count).astype(np.float64)
        weight += client.num_examples
    return (total / weight).astype(np.float32)
