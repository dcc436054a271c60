"""`python -m edge_client.bench.worker FOLDER ENGINE`: one engine of the device at work on a case.

It imports what a trainer needs and no more, so that its memory is that of training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_client.lean import OPENSSL_HASHES, leave_out

leave_out(OPENSSL_HASHES)  # as the trainer does, before anything imports hashlib

import numpy as np  # noqa: E402

from edge_client.bench.case import (  # noqa: E402
    GRAPH_FILE,
    LEARNING_RATE,
    MOMENTUM,
    Case,
    read_calibrated,
    read_case,
    weight_names,
)
from edge_client.bench.inputs import Inputs, read_inputs  # noqa: E402
from edge_client.bench.serving import serve  # noqa: E402
from edge_client.memory import rss_bytes  # noqa: E402
from edge_client.runtime.native.library import load_library  # noqa: E402
from edge_client.runtime.setup import EngineSetup  # noqa: E402
from edge_client.runtime.sparse import SparseEngine  # noqa: E402
from fedsparse.errors import FedSparseError  # noqa: E402
from fedsparse.plan import Plan  # noqa: E402
from fedsparse.types import BoolArray  # noqa: E402

if TYPE_CHECKING:
    from edge_client.runtime.graph import GraphEngine

EXIT_REFUSED: Final = 2


class Device:
    """An engine and what it trains on."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._plan, self._case = read_case(folder)
        self._inputs = read_inputs(folder, self._plan, self._case)
        load_library()
        self._baseline_bytes = rss_bytes()
        start = time.perf_counter()
        self.engine = ENGINES[engine](folder, self._plan, self._case, self._inputs)
        self._built_s = time.perf_counter() - start

    def step(self, number: int) -> None:
        """One training step."""
        now = number % self._case.batches
        samples, targets = self._inputs.samples[now], self._inputs.targets[now]
        self.engine.train_step(samples, targets, learning_rate=LEARNING_RATE)

    def change_mask(self) -> None:
        """Every tensor's mask backwards: other positions, as many."""
        mask = _reversed(self._plan, self._inputs.mask)
        self.engine.replace_mask(mask, self._inputs.weights.prunable)

    def facts(self) -> dict[str, Any]:
        """Memory before the engine was built, how long that took, and how it runs."""
        return {
            "baseline_bytes": self._baseline_bytes,
            "built_s": self._built_s,
            "setup": asdict(self.engine.setup),
        }


def sparse(_: Path, plan: Plan, case: Case, inputs: Inputs) -> SparseEngine:
    """The native engine with sparse kernels throughout."""
    return _native(plan, case, inputs, _setup(case))


def dense(_: Path, plan: Plan, case: Case, inputs: Inputs) -> SparseEngine:
    """The native engine with dense kernels throughout."""
    return _native(plan, case, inputs, replace(_setup(case), dense_layers=weight_names(plan)))


def graph(folder: Path, plan: Plan, case: Case, inputs: Inputs) -> GraphEngine:
    """The training graph in onnxruntime."""
    return _graph(folder, plan, case, inputs, replace(_setup(case), engine="graph"))


def auto(folder: Path, plan: Plan, case: Case, inputs: Inputs) -> SparseEngine | GraphEngine:
    """What calibration chose for the case."""
    setup = read_calibrated(folder).setup
    if setup.engine == "graph":
        return _graph(folder, plan, case, inputs, setup)
    return _native(plan, case, inputs, setup)


ENGINES: Final[dict[str, Callable[[Path, Plan, Case, Inputs], SparseEngine | GraphEngine]]] = {
    "sparse": sparse,
    "dense": dense,
    "graph": graph,
    "auto": auto,
}


def _setup(case: Case) -> EngineSetup:
    return EngineSetup(micro_batch=case.micro_batch or case.batch_size, threads=case.threads)


def _native(plan: Plan, case: Case, inputs: Inputs, setup: EngineSetup) -> SparseEngine:
    return SparseEngine(
        plan,
        inputs.mask,
        inputs.weights,
        batch_size=case.batch_size,
        setup=setup,
        momentum=MOMENTUM,
    )


def _graph(folder: Path, plan: Plan, case: Case, inputs: Inputs, setup: EngineSetup) -> GraphEngine:
    from edge_client.runtime.graph import GraphEngine  # onnxruntime, in no other worker's memory

    return GraphEngine(
        plan,
        inputs.mask,
        inputs.weights,
        graph=folder / GRAPH_FILE,
        batch_size=case.batch_size,
        setup=setup,
        momentum=MOMENTUM,
    )


def _reversed(plan: Plan, mask: BoolArray) -> BoolArray:
    ends = np.cumsum([tensor.size for tensor in plan.prunable])
    return np.concatenate([part[::-1] for part in np.split(mask, ends[:-1])])


if __name__ == "__main__":
    try:
        serve(Device(Path(sys.argv[1]), sys.argv[2]))
    except FedSparseError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_REFUSED)
