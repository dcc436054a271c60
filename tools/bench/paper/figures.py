"""Figures of an experiment: accuracy against rounds and bytes, and the consensus of masks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedsparse.types import Float64Array
from tools.bench.paper.case import Case
from tools.bench.paper.experiment import Experiment
from tools.bench.paper.records import Record, chosen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOW_TO_GET_THEM: Final = 'no figures: they need matplotlib: pip install "fedsparse[bench]"'
# Okabe and Ito's colours, which can be told apart by everyone.
COLOURS: Final = {
    "dense": "#000000",
    "nst": "#D55E00",
    "pdst": "#E69F00",
    "spdst": "#0072B2",
    "jmwst": "#009E73",
    "ssfl": "#CC79A7",
    "sparsyfed": "#56B4E9",
}
STYLES: Final = ("-", "--", ":", "-.")


def figures_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_figures(experiment: Experiment, records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw what the finished runs allow, as SVG files in `folder`; the same for the same runs.

    Returns:
        `accuracy-a<alpha>.svg`, and `consensus-a<alpha>-d<density>.svg` for each largest density of
        a case; empty without matplotlib.
    """
    if not figures_available():
        return []
    paths = []
    for alpha in (split.alpha for split in experiment.splits):
        cases = [case for case in experiment.cases if chosen(records, case.name, alpha)]
        if cases:
            figure = _accuracy_figure(experiment, cases, records, alpha)
            paths.append(_save(figure, folder / f"accuracy-a{alpha:g}.svg"))
        for density in sorted({case.densities[0] for case in cases if case.method != "dense"}):
            shown = _with_consensus(cases, records, alpha, density)
            figure = _consensus_figure(experiment, shown, records, alpha)
            paths.append(_save(figure, folder / f"consensus-a{alpha:g}-d{density:g}.svg"))
    return paths


def _accuracy_figure(
    experiment: Experiment, cases: Sequence[Case], records: Sequence[Record], alpha: float
) -> Figure:
    """A row for each density, dense in all of them; against rounds, and against bytes."""
    sparse = {level for case in cases if case.method != "dense" for level in case.densities}
    densities = sorted(sparse, reverse=True) or [1.0]
    figure = _new_figure(10, 3.2 * len(densities))
    axes = figure.subplots(len(densities), 2, sharey="row", squeeze=False)
    for (rounds, byte_axis), density in zip(axes, densities, strict=True):
        shown = [case for case in cases if density in case.densities or case.method == "dense"]
        for case, style in zip(shown, _styles(shown), strict=True):
            level = density if density in case.densities else 1.0
            _draw_curves(rounds, byte_axis, case, level, chosen(records, case.name, alpha), style)
        rounds.set_title(f"density {density:g}", loc="left")
        rounds.set_ylabel("accuracy, %")
        byte_axis.set_xscale("log")
        byte_axis.legend(fontsize="small", loc="lower right")
    axes[-1][0].set_xlabel("round")
    axes[-1][1].set_xlabel("bytes of all clients so far, both ways")
    figure.suptitle(f"{experiment.title}, alpha {alpha:g}")
    return figure


def _draw_curves(
    rounds: Axes,
    byte_axis: Axes,
    case: Case,
    level: float,
    runs: dict[int, Record],
    style: dict[str, Any],
) -> None:
    """The mean over the seeds, in a band from the lowest to the highest."""
    curves = [_curve(run, level) for run in runs.values()]
    length = min(len(curve) for curve in curves)
    if not length:
        return
    stack = np.stack([curve[:length] for curve in curves])  # (seeds, scored rounds, 3)
    number, sent, score = stack.mean(axis=0).T
    for axis, x in ((rounds, number), (byte_axis, sent)):
        axis.plot(x, score, label=case.name, **style)
        if len(curves) > 1:
            low, high = stack[:, :, 2].min(axis=0), stack[:, :, 2].max(axis=0)
            axis.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axis.grid(alpha=0.25)


def _curve(run: Record, level: float) -> Float64Array:
    """`(scored rounds, 3)`: the round, the bytes up to it, the accuracy in percent."""
    sent = np.cumsum([one["up_bytes"] + one["down_bytes"] for one in run.rounds])
    rows = [
        (one["round"], total, 100 * one["accuracy"][f"{level:g}"])
        for one, total in zip(run.rounds, sent, strict=True)
        if f"{level:g}" in one["accuracy"] and one["stage"] == "train"
    ]
    return np.array(rows, np.float64).reshape(-1, 3)


def _consensus_figure(
    experiment: Experiment, cases: Sequence[Case], records: Sequence[Record], alpha: float
) -> Figure:
    """A row for each case, of its first seed; a line for each tensor."""
    figure = _new_figure(10, 2.6 * len(cases))
    axes = figure.subplots(len(cases), 2, sharex=True, sharey=True, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        run = next(iter(chosen(records, case.name, alpha).values()))
        for axis, side in zip(row, ("clients", "server"), strict=True):
            rounds, values = _consensus_series(run, side)
            for name, line in zip(run.result["layers"], values.T, strict=True):
                axis.plot(rounds, line, ".-", label=name, linewidth=1, markersize=4)
            axis.set_title(f"{case.name}: {_SIDES[side]}", loc="left", fontsize="medium")
            axis.grid(alpha=0.25)
        row[0].set_ylabel("consensus")
        row[0].set_ylim(-0.03, 1.05)
    if len(run.result["layers"]) <= 12:
        axes[0][1].legend(fontsize="small")
    axes[-1][0].set_xlabel("round")
    axes[-1][1].set_xlabel("round")
    figure.suptitle(f"{experiment.title}, alpha {alpha:g}: consensus of masks")
    return figure


_SIDES: Final = {"clients": "clients among each other", "server": "clients with the server"}


def _consensus_series(run: Record, side: str) -> tuple[Float64Array, Float64Array]:
    """Rounds `(n,)` and values `(n, tensors)`; a method whose masks never evolve has 1 throughout.

    Rounds in which masks rest are left out where others evolve: all clients hold the server's then.
    """
    evolved = [one for one in run.training if one["consensus"] is not None]
    if not evolved:
        ends = np.array([1.0, float(max(1, len(run.training)))])
        return ends, np.ones((2, len(run.result["layers"])))
    rounds = np.array([one["round"] for one in evolved], np.float64)
    return rounds, np.array([one["consensus"][side] for one in evolved], np.float64)


def _with_consensus(
    cases: Sequence[Case], records: Sequence[Record], alpha: float, density: float
) -> list[Case]:
    """The cases whose masks evolve, and one of those with fixed masks, which are all alike."""
    sparse = [case for case in cases if case.densities[0] == density and case.method != "dense"]
    evolved = [
        case
        for case in sparse
        if any(
            one["consensus"] is not None
            for run in chosen(records, case.name, alpha).values()
            for one in run.training
        )
    ]
    return [case for case in sparse if case not in evolved][-1:] + evolved


def _styles(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """A colour for each method; cases of one method differ by their line."""
    seen: dict[str, int] = {}
    styles = []
    for case in cases:
        number = seen[case.method] = seen.get(case.method, -1) + 1
        style = STYLES[number % len(STYLES)]
        styles.append({"color": COLOURS[case.method], "linestyle": style, "linewidth": 1.4})
    return styles


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "fedsparse"}):  # ids in the file are random without it
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
