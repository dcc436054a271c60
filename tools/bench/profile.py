"""`fedsparse bench profile`: a step's kernel calls against the limits of the machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE
from rich.table import Table

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.inputs import read_inputs, write_inputs
from edge_client.bench.limits import Limits, measure_limits
from edge_client.bench.profile import CallTime, grouped, profile_step
from edge_client.runtime.native.library import load_library
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup
from fedsparse.plan import Plan

GROUPINGS: Final = {
    "kernel": lambda call: (call.kernel, ""),
    "node": lambda call: ("", call.node),
    "call": lambda call: (call.kernel, call.node),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One step of one case.

    Attributes:
        limits: of the machine, measured just before.
        calls: in the order in which they run.
    """

    model: str
    density: float
    batch_size: int
    limits: Limits
    calls: tuple[CallTime, ...]

    @property
    def seconds(self) -> float:
        """Of all calls."""
        return sum(call.seconds for call in self.calls)

    @property
    def multiply_adds(self) -> int:
        """Of products with weights."""
        return sum(call.multiply_adds for call in self.calls)

    def fma_fraction(self, call: CallTime) -> float:
        """Which part of the machine's multiply-add rate a call reaches."""
        return call.multiply_adds / call.seconds / self.limits.fma_per_s if call.seconds else 0.0

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**asdict(one), "fma_fraction": self.fma_fraction(one)} for one in self.calls]
        return {
            "model": self.model,
            "density": self.density,
            "batch_size": self.batch_size,
            "step_s": self.seconds,
            "fraction_of_fma_peak": self.multiply_adds / self.seconds / self.limits.fma_per_s,
            "limits": self.limits.to_document(),
            "calls": rows,
        }


def measure_profile(
    plan: Plan,
    density: float,
    case: Mapping[str, int],
    *,
    steps: int,
    variant: str | None = None,
    setup: EngineSetup | None = None,
) -> Profile:
    """Profile a plan at a density.

    Args:
        plan: the model.
        density: of every prunable tensor.
        case: `batch_size`, `threads` and `seed`.
        steps: how many are timed.
        variant: of the kernels; by default what an engine takes.
        setup: how steps are run.
    """
    described = Case(kept=kept_at(plan, density), **case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, plan, described)
        write_inputs(folder)
        inputs = read_inputs(folder, plan, described)
    calls = profile_step(
        plan, described, inputs, setup=setup, steps=steps, library=TimedLibrary(variant=variant)
    )
    return Profile(
        model=plan.name,
        density=density,
        batch_size=described.batch_size,
        limits=measure_limits(load_library(), variant=variant),
        calls=tuple(calls),
    )


def profile_table(profile: Profile, by: str, rows: int = 0) -> Table:
    """The calls added up by `kernel`, `node` or `call`, longest first.

    Args:
        profile: what was measured.
        by: a key of `GROUPINGS`.
        rows: how many; 0 = all.
    """
    table = Table(
        title=f"{profile.model}, density {profile.density:g}, batch {profile.batch_size}: "
        f"{1e3 * profile.seconds:.2f} ms a step",
        caption=_caption(profile),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in ("kernel", "node"):
        if by in (name, "call"):
            table.add_column(name, overflow="fold")
    for name in ("calls", "ms", "share", "M mul-add", "of peak", "GB/s"):
        table.add_column(name, justify="right", no_wrap=True)
    added = grouped(profile.calls, GROUPINGS[by])
    for one in added[: rows or len(added)]:
        table.add_row(*_cells(profile, one))
    return table


def _cells(profile: Profile, one: CallTime) -> list[str]:
    products = one.multiply_adds > 0
    return [
        *(name for name in (one.kernel, one.node) if name),
        str(one.calls),
        f"{1e3 * one.seconds:.3f}",
        f"{100 * one.seconds / profile.seconds:.1f} %",
        f"{one.multiply_adds / 1e6:.2f}" if products else "",
        f"{100 * profile.fma_fraction(one):.1f} %" if products else "",
        f"{one.moved_bytes / one.seconds / 1e9:.1f}" if one.seconds else "",
    ]


def _caption(profile: Profile) -> str:
    limits = profile.limits
    load, copy = (
        "/".join(f"{rates[level] / 1e9:.0f}" for level in ("l1", "l2", "dram"))
        for rates in (limits.load_bytes_per_s, limits.copy_bytes_per_s)
    )
    share = profile.multiply_adds / profile.seconds / limits.fma_per_s
    return (
        f"{100 * share:.1f} % of {limits.fma_per_s / 1e9:.1f} G multiply-adds/s "
        f"({limits.variant})\nL1/L2/DRAM: load {load}, copy {copy} GB/s"
    )
