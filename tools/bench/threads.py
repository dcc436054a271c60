"""What threads are worth: the same steps with one and with several, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.figures import device_engine
from edge_client.bench.race import Progress, draw_inputs, race
from fedsparse.plan import Plan

MOST_SLOWDOWN: Final = 1.05  # of several threads against one


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadsRow:
    """A model at a density: threads -> ms of a step, of the native engine with sparse kernels."""

    model: str
    density: float
    step_ms: dict[int, float]

    @property
    def slowdown(self) -> float:
        """The longest step with several threads against that of one."""
        return max(self.step_ms.values()) / self.step_ms[1]

    @property
    def holds(self) -> bool:
        """Whether several threads are never slower than one, but for a small allowance."""
        return self.slowdown <= MOST_SLOWDOWN

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "slowdown": self.slowdown, "holds": self.holds}


def measure_threads(
    model: str,
    plan: Plan,
    densities: Sequence[float],
    threads: Sequence[int],
    folder: Path,
    *,
    batch_size: int,
    rounds: int,
    block_s: float,
    progress: Progress,
) -> list[ThreadsRow]:
    """Time every density with every number of threads, in turn.

    Args:
        model: how the rows call it.
        plan: what is trained.
        densities: of every prunable tensor.
        threads: with 1 among them.
        folder: for the cases.
        batch_size: of the steps.
        rounds: blocks of each.
        block_s: about how long one takes.
        progress: is told what happens.

    Raises:
        WorkerError: a process died.
    """
    contestants = []
    for density in densities:
        for count in threads:
            name = _name(density, count)
            case = Case(kept=kept_at(plan, density), batch_size=batch_size, threads=count)
            write_case(folder / name, plan, case)
            contestants.append(device_engine(name, "sparse", str(folder / name), count))
    draw_inputs([folder / one.name for one in contestants])
    results = race(contestants, rounds=rounds, block_s=block_s, progress=progress)
    return [
        ThreadsRow(
            model=model,
            density=density,
            step_ms={count: 1e3 * results[_name(density, count)].step_s for count in threads},
        )
        for density in densities
    ]


def _name(density: float, threads: int) -> str:
    return f"density {density:g} threads {threads}"
