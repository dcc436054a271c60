"""`report.html` and the picture of a run, made from `events.jsonl` and `summary.json` alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from fedsparse.errors import DataError
from tools.demo.charts import (
    Series,
    Stack,
    kilobytes,
    legend,
    level_chart,
    score_chart,
    traffic_chart,
)
from tools.demo.events import EventTail
from tools.demo.state import RunState, level_key
from tools.demo.style import CHART, PAGE, PALETTE
from tools.demo.tables import device_table, tiles

SVG_NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded run: its summary, and the state that its events add up to."""

    summary: dict[str, Any]
    state: RunState

    @property
    def levels(self) -> list[str]:
        """Density levels, largest first."""
        return self.state.levels


def read_run(folder: Path) -> Run:
    """Read a run's files.

    Raises:
        DataError: `folder` holds no finished run.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no finished run: {error}") from error
    state = RunState()
    for event in EventTail(folder / "events.jsonl").read():
        state.apply(event)
    return Run(summary=summary, state=state)


def write_report(folder: Path) -> Path:
    """Write `report.html` beside the run's files and return its path."""
    path = folder / "report.html"
    path.write_text(report_html(read_run(folder)), encoding="utf-8")
    return path


def write_picture(folder: Path, path: Path) -> None:
    """Write the picture of a run (accuracy and bytes per round) as a stand-alone SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture_svg(read_run(folder)), encoding="utf-8")


def report_html(run: Run) -> str:
    """The self-contained page."""
    summary = run.summary
    title = f"{summary['dataset']}, {summary['method']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>fedsparse: {escape(title)}</title>
<style>{PALETTE}{CHART}{PAGE}</style></head><body><main>
<p class="eyebrow">fedsparse · {escape(title)} · seed {summary["seed"]}</p>
<h1>{escape(_headline(run))}</h1>
<p class="lede">{escape(_lede(run))}</p>
{tiles(summary)}
<div class="cards">
<section class="card"><h2>{_score_name(run)} per round</h2>
<p class="sub">{escape(_where_evaluated(summary))}</p>
{_score_chart(run, width=560, height=362)}</section>
<section class="card"><h2>Bytes per round</h2>
<p class="sub">All devices, up and down, everything that went over MQTT.</p>
{_traffic(run, width=560, height=330)}
{legend(_legend(run))}</section>
<section class="card wide"><h2>What a device sends in a round</h2>
<p class="sub">One device, one direction, in a round in which no mask travels.</p>
{level_chart(_level_bytes(run), summary["dense_bytes"], width=1060)}</section>
<section class="card wide"><h2>Devices</h2>
<p class="sub">Each device measured itself and chose the largest density that fits its memory
budget and the deadline of {summary["deadline_s"]:g} s; in turn it also trains the lower ones.
Boards are emulated: their speeds are estimates unless a profile says measured.</p>
{device_table(summary, run.levels)}</section>
</div>
{_footer(summary)}
</main></body></html>
"""


def picture_svg(run: Run) -> str:
    """Accuracy and bytes per round side by side, for a README; follows light and dark."""
    width, height = 1120, 400
    scores = _score_chart(run, width=540, height=310)
    traffic = _traffic(run, width=520, height=310)
    return (
        f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}"><style>{PALETTE}{CHART}.h{{font:600 16px sans-serif;fill:var(--ink)}}'
        f".back{{fill:var(--card);stroke:var(--rule)}}</style>"
        f'<rect class="back" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="12"/>'
        f'<text class="h chart" x="28" y="40">{_score_name(run)} per round, by density</text>'
        f'<text class="h chart" x="588" y="40">Bytes per round, all devices, up and down</text>'
        f"{_placed(scores, 20, 64, 540, 310)}{_placed(traffic, 580, 64, 520, 310)}</svg>\n"
    )


def _placed(svg: str, x: int, y: int, width: int, height: int) -> str:
    """A chart at a place within another SVG, where CSS sizes do not apply."""
    place = f'<svg x="{x}" y="{y}" width="{width}" height="{height}" style="width:{width}px"'
    return svg.replace("<svg", place, 1)


def _score_name(run: Run) -> str:
    return "Accuracy" if run.summary["accuracy"] else "Test loss"


def _score_chart(run: Run, *, width: float, height: float) -> str:
    """Accuracy by level; where no answer is right or wrong, the loss."""
    is_loss = not run.summary["accuracy"]
    series = []
    for colour, level in enumerate(run.levels):
        scores = [
            (one.round_id, one.test_loss if is_loss else one.accuracy)
            for one in run.state.training_rounds
        ]
        points = tuple((number, found[level]) for number, found in scores if level in found)
        series.append(Series(label=f"density {level}", colour=colour, points=points))
    return score_chart(series, width=width, height=height, is_loss=is_loss)


def _traffic(run: Run, *, width: float, height: float) -> str:
    dense = 2 * len(run.summary["devices"]) * run.summary["dense_bytes"]
    stacks = _traffic_stacks(run)
    training = {one.round_id for one in run.state.training_rounds}
    totals = [one.total for one in stacks if one.round_id in training and one.total]
    times = f"{dense / median(totals):.1f} times fewer" if totals else ""
    return traffic_chart(stacks, dense, width=width, height=height, times=times)


def _traffic_stacks(run: Run) -> list[Stack]:
    stacks = []
    for one in run.state.rounds:
        sizes = dict.fromkeys([f"c{index}" for index in range(len(run.levels))] + ["cm"], 0)
        for device, traffic in one.traffic.items():
            level, rest = one.levels.get(device), traffic.mask + traffic.down_plan
            if level in run.levels:
                sizes[f"c{run.levels.index(level)}"] += traffic.total - rest
            else:
                rest = traffic.total  # it was asked, but did not train
            sizes["cm"] += rest
        stacks.append(Stack(round_id=one.round_id, segments=tuple(sizes.items())))
    return stacks


def _level_bytes(run: Run) -> list[tuple[str, int, int]]:
    return [
        (f"density {level_key(one['level'])}", colour, one["up_bytes_per_round"])
        for colour, one in enumerate(run.summary["levels"])
        if one["up_bytes_per_round"]
    ]


def _legend(run: Run) -> dict[str, str]:
    keys = {f"c{index}": f"density {level}" for index, level in enumerate(run.levels)}
    return keys | {"cm": "masks, plan"}


def _headline(run: Run) -> str:
    count, levels = len(run.summary["devices"]), len(run.summary["test_loss"])
    if levels == 1:
        return f"{count} devices, one model"
    return f"{count} devices of unequal means, one model, {levels} densities"


def _lede(run: Run) -> str:
    summary = run.summary
    text = (
        f"A model of {summary['dense_parameters']:,} parameters, trained in {summary['rounds']} "
        f"rounds and {summary['wall_s']:.0f} seconds; no sample left its device."
    )
    rows = _level_bytes(run)
    if len(rows) > 1:
        text += (
            f" A device sends {kilobytes(rows[-1][2])} to {kilobytes(rows[0][2])} a round, by the "
            f"density at which it trains; the dense model would be "
            f"{kilobytes(summary['dense_bytes'])}."
        )
    return text


def _where_evaluated(summary: dict[str, Any]) -> str:
    if summary["evaluated_on"] == "gateway":
        return "The global model at each density, on the gateway's test set."
    return "The global model at each density, on hold-outs that stay on the devices."


def _footer(summary: dict[str, Any]) -> str:
    host = summary["host"]
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    files = ", ".join(f"<code>{escape(Path(one).name)}</code>" for one in summary["onnx"])
    return f"""<details open><summary>What the figures mean</summary><dl>
<dt>Bytes</dt><dd>MQTT PUBLISH packets of a device at its density, median over training rounds in
which values alone travelled; masks and the plan travel when they change. Overhead is their ratio to
the kept values and dense tensors themselves, as float32.</dd>
<dt>Memory</dt><dd>Resident set of agent and trainer together at their highest; idle is the waiting
agent alone.</dd>
<dt>Round overhead</dt><dd>Wall time of a round less the longest training time of a device in it;
median over training rounds.</dd>
<dt>Step</dt><dd>Median wall time of one training step on this machine, not on the board.</dd>
</dl></details>
<footer>{escape(host["system"])}, {host["cpus"]} CPUs, Python {escape(host["python"])}; broker
{escape(summary["broker"])}; {escape(versions)}. Models: {files or "none"}.</footer>"""
