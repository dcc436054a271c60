"""The commands `fedsparse bench ...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.demo.cli import Dataset, Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.accuracy import LevelResult

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure what the README claims."""


@app.command()
def accuracy(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0 on.")] = 3,
    dataset: Annotated[Dataset, typer.Option(help="Data set.")] = Dataset.WATCH,
    method: Annotated[Method, typer.Option(help="The sparse method.")] = Method.SPDST,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Training rounds; by default the data set's.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for runs and results.")] = Path("out/bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Accuracy and bytes at each density against dense federated averaging, as the demo runs."""
    from tools.bench.accuracy import measure, write_results
    from tools.demo.run import run_demo
    from tools.demo.scenario import DemoOptions
    from tools.demo.views import QuietView

    if method is Method.DENSE:
        raise typer.BadParameter("dense is what the method is compared with", param_hint="--method")
    last: dict[str, Any] = {}

    def run(name: str, seed: int) -> dict[str, Any]:
        folder = output / f"{dataset.value}-{name}-{seed}"
        options = DemoOptions(
            output=folder, dataset=dataset.value, method=name, seed=seed, rounds=rounds
        )
        last.update(run_demo(options, QuietView()).summary)
        typer.echo(f"{name}, seed {seed}: {last['accuracy']} in {last['wall_s']} s", err=True)
        return dict(last)

    results = measure(method.value, range(seeds), run)
    path = output / "accuracy.json"
    facts = {key: last[key] for key in ("dataset", "rounds", "dense_parameters", "dense_bytes")}
    hardware = {key: last[key] for key in ("host", "versions", "broker")}
    write_results(path, results, {**facts, "seeds": seeds, **hardware})
    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        _print_table(results, path)


def _print_table(results: Sequence[LevelResult], path: Path) -> None:
    typer.echo("| method | density | accuracy | to dense | up / down a round | dense / it |")
    typer.echo("|---|---|---|---|---|---|")
    for one in results:
        size = f"{one.up_bytes / 1e3:,.1f} / {one.down_bytes / 1e3:,.1f} kB"
        typer.echo(
            f"| {one.method} | {one.level:g} | {100 * one.accuracy:.1f} ± "
            f"{100 * one.deviation:.1f} % | {100 * one.difference:+.1f} points | {size} | "
            f"{one.ratio:.1f} |"
        )
    typer.echo(f"\nwritten to {path}", err=True)
