"""The commands `fedsparse demo` and `fedsparse report`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsparse.methods.name import MethodName

if TYPE_CHECKING:
    from tools.demo.run import Outcome


class Dataset(str, Enum):
    """What the demo can train on."""

    WATCH = "watch"
    DIGITS = "digits"
    MNIST = "mnist"
    CIFAR10 = "cifar10"


class Evaluator(str, Enum):
    """Who holds the samples that score the model."""

    GATEWAY = "gateway"
    DEVICES = "devices"


def demo(
    dataset: Annotated[
        Dataset, typer.Option(help="Data set; mnist and cifar10 are fetched on request.")
    ] = Dataset.WATCH,
    method: Annotated[MethodName, typer.Option(help="How sparsity is found.")] = MethodName.SPDST,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Training rounds; by default the data set's.")
    ] = None,
    devices: Annotated[int, typer.Option(min=2, max=64, help="How many devices.")] = 8,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds a round may last; devices choose levels by it.")
    ] = None,
    evaluate_on: Annotated[
        Evaluator, typer.Option(help="Whose samples score the model.")
    ] = Evaluator.GATEWAY,
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("out/demo"),
    kill: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE@ROUND",
            help="Kill a device while it trains, such as pi5@4, and start it again.",
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Also write the picture as SVG.")] = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Table or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Train one model on eight emulated boards: broker, aggregator and devices on this machine."""
    from tools.demo.report import write_picture
    from tools.demo.run import run_demo
    from tools.demo.scenario import DemoOptions, Kill
    from tools.demo.views import open_view

    options = DemoOptions(
        output=output,
        dataset=dataset.value,
        method=method.value,
        seed=seed,
        rounds=rounds,
        devices=devices,
        deadline_s=deadline,
        evaluate_on_devices=evaluate_on is Evaluator.DEVICES,
        kill=Kill.parse(kill) if kill else None,
    )
    outcome = run_demo(options, open_view(live=live))
    if picture:
        write_picture(output, picture)
    if as_json:
        typer.echo(json.dumps(outcome.summary, indent=2))
    else:
        _print_summary(outcome)


def report(
    folder: Annotated[Path, typer.Argument(help="The output of a finished run.")],
    picture: Annotated[Path | None, typer.Option(help="Also write the picture as SVG.")] = None,
) -> None:
    """Write the report of a finished run again, from its events and its summary."""
    from tools.demo.report import write_picture, write_report

    typer.echo(write_report(folder))
    if picture:
        write_picture(folder, picture)
        typer.echo(picture)


def _print_summary(outcome: Outcome) -> None:
    summary = outcome.summary
    lines = ["", *_score_lines(summary), *_cost_lines(summary), ""]
    lines += [f"  report   {outcome.report_file}", f"  figures  {outcome.summary_file}"]
    lines += [f"  model    {path}" for path in summary["onnx"]]
    typer.echo("\n".join(lines))


def _score_lines(summary: dict[str, Any]) -> list[str]:
    from tools.demo.state import score_texts

    name = "accuracy " if summary["accuracy"] else ""
    return [
        f"  density {level:<5} {name}{text:>7}{_level_bytes(summary, float(level))}"
        for level, text in score_texts(summary["accuracy"], summary["test_loss"]).items()
    ]


def _level_bytes(summary: dict[str, Any], level: float) -> str:
    size = next(
        (one["up_bytes_per_round"] for one in summary["levels"] if one["level"] == level), 0
    )
    count = sum(one["level"] == level for one in summary["devices"])
    devices = f"   the choice of {count} device{'s' if count != 1 else ''}"
    if not size:
        return devices
    share = summary["dense_bytes"] / size
    return f"{devices}; {size / 1e3:,.0f} kB up a round (1/{share:.1f} of dense)"


def _cost_lines(summary: dict[str, Any]) -> list[str]:
    devices = summary["devices"]
    peak = max((one["peak_rss_mb"] for one in devices), default=0.0)
    idle = max((one["idle_rss_mb"] for one in devices), default=0.0)
    return [
        f"  memory of a device: at most {peak:.0f} MB training, {idle:.0f} MB idle",
        f"  {summary['rounds']} rounds in {summary['wall_s']:.0f} s; round overhead "
        f"{summary['round_overhead_s']:.2f} s",
    ]
