"""A model that no plan expresses, over a real broker: it reaches the devices, and it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from e2e_fleet import JOB, Fleet
from torch import nn

from aggregator.evaluate import load_test_set
from aggregator.models.opaque import from_module
from aggregator.models.session import open_session, run
from fedsparse.plan import INPUT, Loss

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]


class Rows(nn.Module):
    """A GRU that reads a digit row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 48, batch_first=True)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.gru(x[:, 0])[0][:, -1])


def test_a_recurrent_model_is_delivered_trained_scored_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    imported = from_module(Rows(), (1, 8, 8), name="rows", loss=Loss.CROSS_ENTROPY)
    job = replace(
        JOB, rounds=4,
        method=replace(JOB.method, levels=(0.5, 0.3)),
        training=replace(JOB.training, epochs=4, learning_rate=0.1),
    )  # fmt: skip
    with Fleet(tmp_path, job, imported=imported) as fleet:
        fleet.start()
        done = fleet.wait_until_done()
        assert done["accuracy"]["0.5"] > 0.6  # a guess is right in one of ten
        for device in fleet.devices:
            stored = list((tmp_path / device / "plans").glob("*.graph"))
            assert [path.stem for path in stored] == [imported.plan.graph]
        x, y = load_test_set(fleet.job.test_data, imported.plan)
        model = (fleet.job.output / "model-0.5.onnx").read_bytes()
        right = run(open_session(model), {INPUT: x}).argmax(1) == y
        assert np.mean(right) == pytest.approx(done["accuracy"]["0.5"], abs=1e-5)
