"""A simulation computes what processes over a broker compute: the same model, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from e2e_fleet import JOB, Fleet

from aggregator.checkpoint import load_checkpoint
from aggregator.job import ValuesConfig
from fedsparse.plan.zoo import PLANS
from tools.simulation.run import model_digest, simulate
from tools.simulation.spec import RunSpec

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]


@pytest.mark.parametrize(("name", "up", "down"), [("jmwst", "f32", "f32"), ("nst", "i8", "f16")])
def test_virtual_clients_train_the_model_that_real_devices_train(
    tmp_path: Path, name: str, up: str, down: str
) -> None:
    method = replace(JOB.method, name=name, r_int=2)
    values = ValuesConfig(up=up, down=down)
    spec = RunSpec(
        dataset="digits",
        plan="digits",
        clients=3,
        cohort=3,
        method=method,
        training=JOB.training,
        values=values,
        rounds=JOB.rounds,
    )
    simulated = simulate(spec, tmp_path / "simulated", data=tmp_path / "data")
    job = replace(JOB, method=method, values=values)
    names = tuple(f"client-{number:04d}" for number in range(3))
    with Fleet(tmp_path / "real", job, devices=names, holdout=0.0) as fleet:
        fleet.start()
        fleet.wait_until_done()
        real = load_checkpoint(fleet.job.output, PLANS["digits"](), job.name, name)
    assert real is not None
    assert model_digest(real.state) == simulated["model_digest"]
