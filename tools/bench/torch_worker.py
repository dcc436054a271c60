"""`python -m tools.bench.torch_worker FOLDER dense|masked`: torch's eager training loop on a case.

`dense` is the usual loop. `masked` also multiplies the weights by the mask after every step, as the
FLASH reference does: sparse training that saves nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aggregator.models.to_torch import load_weights, loss_function, to_torch
from edge_client.bench.case import LEARNING_RATE, MOMENTUM, read_case
from edge_client.bench.inputs import Inputs, read_inputs
from edge_client.bench.serving import serve
from edge_client.memory import rss_bytes
from fedsparse.plan import Plan
from fedsparse.types import Weights


class Eager:
    """A module, its optimizer and, for `masked`, the mask of each prunable tensor."""

    def __init__(self, folder: Path, kind: str) -> None:
        plan, case = read_case(folder)
        torch.set_num_threads(case.threads)
        inputs = read_inputs(folder, plan, case)
        self._baseline_bytes = rss_bytes()
        start = time.perf_counter()
        self.module = to_torch(plan)
        load_weights(self.module, plan, _all_weights(inputs), inputs.mask)
        self._masks = self._named_masks(plan, inputs) if kind == "masked" else []
        self._samples = torch.from_numpy(inputs.samples)
        self._targets = torch.from_numpy(inputs.targets)
        self._loss = loss_function(plan.loss)
        self._optimizer = torch.optim.SGD(
            self.module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM
        )
        self._built_s = time.perf_counter() - start

    def step(self, number: int) -> None:
        """One training step."""
        now = number % len(self._samples)
        self._optimizer.zero_grad()
        loss = self._loss(self.module(self._samples[now]), self._targets[now])
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            for parameter, mask in self._masks:
                parameter.mul_(mask)

    def change_mask(self) -> None:
        """Every tensor's mask backwards."""
        self._masks = [(parameter, mask.flip(0)) for parameter, mask in self._masks]

    def facts(self) -> dict[str, Any]:
        """Memory before the module was built, and how long that took."""
        return {"baseline_bytes": self._baseline_bytes, "built_s": self._built_s, "setup": None}

    def _named_masks(self, plan: Plan, inputs: Inputs) -> list[tuple[Any, Any]]:
        parameters = dict(self.module.named_parameters())
        ends = np.cumsum([tensor.size for tensor in plan.prunable])
        parts = np.split(inputs.mask, ends[:-1])
        return [
            (parameters[tensor.name], torch.from_numpy(part.astype(np.float32)).view(tensor.shape))
            for tensor, part in zip(plan.prunable, parts, strict=True)
        ]


def _all_weights(inputs: Inputs) -> Weights:
    """The kept values at their positions, zeros elsewhere."""
    prunable = np.zeros(inputs.mask.size, np.float32)
    prunable[inputs.mask] = inputs.weights.prunable
    return Weights(prunable=prunable, dense=inputs.weights.dense)


if __name__ == "__main__":
    serve(Eager(Path(sys.argv[1]), sys.argv[2]))
