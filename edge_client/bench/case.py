"""One case of a measurement, as a folder: what every engine's worker trains on. No numpy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fedsparse.errors import DataError
from fedsparse.plan import Plan, Role

MOMENTUM: Final = 0.9
LEARNING_RATE: Final = 1e-3  # so small that nothing diverges within a measurement
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
