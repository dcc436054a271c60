"""What the runtime is to reach: floors and aims, one thread, batches of 32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A threshold of one figure of a result row.

    Attributes:
        figure: the row's key.
        floor: what it must reach.
        aim: what it should reach; the floor where there is no more to want.
        at_most: whether less is better.
    """

    figure: str
    floor: float
    aim: float
    at_most: bool = False

    def verdict(self, measured: float) -> str:
        """`aim`, `floor` or `miss`."""
        for name, bound in (("aim", self.aim), ("floor", self.floor)):
            if measured <= bound if self.at_most else measured >= bound:
                return name
        return "miss"


def _speedups(**by_density: tuple[float, float]) -> dict[str, Target]:
    return {
        density.lstrip("d").replace("_", "."): Target(figure="speedup", floor=floor, aim=aim)
        for density, (floor, aim) in by_density.items()
    }


SPEEDUP: Final[Mapping[str, Mapping[str, Target]]] = {
    "mnist": _speedups(d0_05=(9, 14), d0_1=(7, 10), d0_2=(5, 7)),
    "har": _speedups(d0_05=(8, 12), d0_1=(5.5, 8), d0_2=(3.3, 4.5)),
    "resnet": _speedups(d0_05=(3, 5), d0_1=(2.4, 3.5), d0_2=(1.6, 2)),
    # one of the two is enough
    "dscnn": _speedups(d0_05=(1.5, 3)),
    "mobilenet": _speedups(d0_05=(1.5, 3)),
}
PEAK_AT_0_1: Final[Mapping[str, Target]] = {
    "mnist": Target(figure="peak_rss_mb", floor=40, aim=36, at_most=True),
    "har": Target(figure="peak_rss_mb", floor=40, aim=36, at_most=True),
    "resnet": Target(figure="peak_rss_mb", floor=120, aim=95, at_most=True),
}
# Of models of about 300 k parameters.
SETUP: Final = (
    Target(figure="setup_ms", floor=150, aim=150, at_most=True),
    Target(figure="mask_change_ms", floor=150, aim=150, at_most=True),
)
SETUP_MODELS: Final = ("mnist", "har", "resnet")
AUTO_DENSE: Final = Target(figure="auto_vs_best_dense", floor=1.1, aim=1.0, at_most=True)


def verdicts(model: str, density: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The targets of a result row, each with what was measured and how it did.

    Args:
        model, density: as in the results.
        row: figure -> what was measured; a figure that is missing or None has no verdict.
    """
    wanted = [SPEEDUP[model][density]] if density in SPEEDUP.get(model, {}) else []
    if density == "0.1" and model in PEAK_AT_0_1:
        wanted.append(PEAK_AT_0_1[model])
    if model in SETUP_MODELS:
        wanted.extend(SETUP)
    if density == "1.0":
        wanted.append(AUTO_DENSE)
    return [
        {**asdict(one), "measured": row[one.figure], "verdict": one.verdict(row[one.figure])}
        for one in wanted
        if row.get(one.figure) is not None
    ]
