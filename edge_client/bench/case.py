"""One case of a measurement, as a folder: what every engine's worker trains on. No numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import DataError
from fedsparse.plan import Plan, Role

MOMENTUM: Final = 0.9
LEARNING_RATE: Final = 1e-3  # so small that nothing diverges within a measurement
GRAPH_FILE: Final = "training.graph"  # where the engine `graph` takes part
BATCHES: Final = 4  # different ones, taken in turn, as an epoch does


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is trained.

    Attributes:
        kept: kept weights of each prunable tensor, in plan order.
        batch_size: samples of a step.
        micro_batch: samples that go through at once; 0 = the batch.
        threads: of the engine.
        seed: makes mask, weights, samples and targets.
        batches: how many there are.
    """

    kept: tuple[int, ...]
    batch_size: int = 32
    micro_batch: int = 0
    threads: int = 1
    seed: int = 0
    batches: int = BATCHES


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What calibration on this machine says of a case.

    Attributes:
        setup: how steps are to be run.
        step_s: how long one takes then.
    """

    setup: EngineSetup
    step_s: float


def kept_at(plan: Plan, density: float) -> tuple[int, ...]:
    """Kept weights of each prunable tensor at one density for all: the same share, at least one."""
    return tuple(max(1, round(density * tensor.size)) for tensor in plan.prunable)


def weight_names(plan: Plan) -> tuple[str, ...]:
    """The weight tensors of all linear and convolutional nodes, prunable or not."""
    return tuple(tensor.name for tensor in plan.tensors if tensor.role is Role.WEIGHT)


def write_case(folder: Path, plan: Plan, case: Case) -> None:
    """Describe a case; `python -m edge_client.bench.inputs` adds the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    (folder / "case.json").write_text(json.dumps(asdict(case)), encoding="utf-8")


def read_case(folder: Path) -> tuple[Plan, Case]:
    """Read what `write_case` wrote.

    Raises:
        DataError: it is not there, or is something else.
    """
    try:
        plan = Plan.from_json((folder / "plan.json").read_bytes())
        document = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return plan, Case(**{**document, "kept": tuple(document["kept"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder} holds no case: {error}") from error


def write_calibrated(folder: Path, calibrated: Calibrated) -> None:
    """Write down what calibration said of a case."""
    text = json.dumps({"setup": asdict(calibrated.setup), "step_s": calibrated.step_s})
    (folder / "calibrated.json").write_text(text, encoding="utf-8")


def read_calibrated(folder: Path) -> Calibrated:
    """Read what `write_calibrated` wrote.

    Raises:
        DataError: the case was not calibrated.
    """
    try:
        document = json.loads((folder / "calibrated.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no calibration: {error}") from error
    return Calibrated(setup=setup_from(document["setup"]), step_s=document["step_s"])


def setup_from(document: Mapping[str, Any]) -> EngineSetup:
    """The setup whose fields JSON has carried."""
    return EngineSetup(**{**document, "dense_layers": tuple(document["dense_layers"])})
