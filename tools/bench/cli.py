"""The commands `fedsparse bench ...`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsparse.methods.name import MethodName
from tools.bench.devices.parts import Part
from tools.bench.transport.parts import Part as TransportPart
from tools.demo.cli import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.accuracy import LevelResult


class Grouping(str, Enum):
    """What a profile adds up."""

    CALL = "call"
    KERNEL = "kernel"
    NODE = "node"


class Variant(str, Enum):
    """Vectors of the kernels."""

    AVX512 = "avx512"
    AVX2 = "avx2"
    BASE = "base"


app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure what the README claims."""


@app.command()
def accuracy(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0 on.")] = 3,
    dataset: Annotated[Dataset, typer.Option(help="Data set.")] = Dataset.WATCH,
    method: Annotated[MethodName, typer.Option(help="The sparse method.")] = MethodName.SPDST,
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

    if method is MethodName.DENSE:
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


@app.command()
def runtime(
    models: Annotated[
        str, typer.Option(help="Models of the zoo or paths of plan.json, by commas.")
    ] = "mnist,har,resnet,dscnn,mobilenet",
    densities: Annotated[
        str, typer.Option(help="Kept fractions, by commas.")
    ] = "0.05,0.1,0.2,0.5,1.0",
    batch: Annotated[int, typer.Option(min=2, help="Samples of a step.")] = 32,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of every engine.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of steps of each engine.")] = 15,
    quick: Annotated[
        bool, typer.Option("--quick", help="3 short rounds: to try it, not to report it.")
    ] = False,
    with_torch: Annotated[
        bool, typer.Option("--torch/--no-torch", help="Compare with torch (needs it installed).")
    ] = True,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "out/bench/runtime.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Time and memory of a training step: sparse against torch, torch times mask, and graph.

    Every engine runs in a process of its own, with the same threads, the same masks, weights and
    batches; all engines of a model work in turn, a block of steps each, and medians over the
    blocks are compared. Progress is on stderr. docs/runtime.md says what each figure is.
    """
    from tools.bench.runtime import Conditions, available_engines
    from tools.bench.runtime_run import RuntimeRequest, run_runtime

    quickly = {"rounds": 3, "block_s": 0.05, "mask_changes": 2} if quick else {"rounds": rounds}
    run_runtime(
        RuntimeRequest(
            models=_listed(models),
            densities=_densities(densities),
            conditions=Conditions(
                batch_size=batch,
                threads=threads,
                engines=available_engines(with_torch=with_torch),
                **quickly,
            ),
            output=output,
            as_json=as_json,
        )
    )


@app.command()
def forecast(
    models: Annotated[
        str, typer.Option(help="Models of the zoo or paths of plan.json, by commas.")
    ] = "mnist,har,resnet",
    densities: Annotated[
        str, typer.Option(help="Kept fractions, by commas.")
    ] = "0.05,0.1,0.2,0.5,1.0",
    batches: Annotated[str, typer.Option(help="Samples of a step, by commas.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of steps of each case.")] = 9,
    quick: Annotated[bool, typer.Option("--quick", help="2 short rounds: to try it.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless every prediction holds.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "out/bench/forecast.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Predicted against measured: the memory that training adds, and the time of a step.

    Every case is calibrated as a device does it, then trained as calibration chose. Predictions
    hold if memory is within 15 % or 1 MB and not more than 3 % below, and time within 25 %.
    """
    from tools.bench.forecast_run import ForecastRequest, run_forecast

    holds = run_forecast(
        ForecastRequest(
            models=_listed(models),
            densities=_densities(densities),
            batches=_numbers(batches, "--batches"),
            rounds=2 if quick else rounds,
            block_s=0.05 if quick else 0.15,
            output=output,
            as_json=as_json,
        )
    )
    raise typer.Exit(int(strict and not holds))


@app.command()
def threads(
    models: Annotated[
        str, typer.Option(help="Models of the zoo or paths of plan.json, by commas.")
    ] = "mnist,har,resnet,dscnn,mobilenet",
    densities: Annotated[str, typer.Option(help="Kept fractions, by commas.")] = "0.05,0.2,1.0",
    counts: Annotated[
        str, typer.Option("--threads", help="How many, by commas, beside one.")
    ] = "2",
    batch: Annotated[int, typer.Option(min=2, help="Samples of a step.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of steps of each case.")] = 15,
    quick: Annotated[bool, typer.Option("--quick", help="2 short rounds: to try it.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a case is more than 5 % slower.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "out/bench/threads.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """What threads are worth, and that they never cost: one against several, side by side."""
    from tools.bench.threads_run import ThreadsRequest, run_threads

    holds = run_threads(
        ThreadsRequest(
            models=_listed(models),
            densities=_densities(densities),
            threads=_numbers(counts, "--threads"),
            batch_size=batch,
            rounds=2 if quick else rounds,
            block_s=0.05 if quick else 0.15,
            output=output,
            as_json=as_json,
        )
    )
    raise typer.Exit(int(strict and not holds))


def _numbers(text: str, option: str) -> tuple[int, ...]:
    parts = _listed(text)
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(
            f"'{text}': expected whole numbers from 1 such as 1,8,32", param_hint=option
        )
    return tuple(int(part) for part in parts)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _densities(text: str) -> tuple[float, ...]:
    try:
        found = sorted({float(part) for part in _listed(text)})
    except ValueError:
        found = []
    if not found or not 0 < found[0] <= found[-1] <= 1:
        raise typer.BadParameter(
            f"'{text}': expected fractions in (0, 1] such as 0.05,0.1", param_hint="--densities"
        )
    return tuple(found)


@app.command()
def limited(
    model: Annotated[str, typer.Argument(help="A model of the zoo, or a plan.json.")] = "resnet18",
    memory: Annotated[int, typer.Option(min=1, help="The limit in MB (1e6 bytes).")] = 512,
    density: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Kept fraction.")] = 0.05,
    batch: Annotated[int, typer.Option(min=2, help="Samples of a step.")] = 32,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of a step.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="How many are trained.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train under a real memory limit, in the largest micro-batches that are predicted to fit.

    The limit is a control group's where one can be made (as root), else one of address space.
    """
    import json

    from edge_client.bench.case import Case, kept_at
    from fedsparse.plan.finding import find_plan
    from tools.bench.limited import run_limited

    plan = find_plan(model)
    case = Case(kept=kept_at(plan, density), batch_size=batch, threads=threads)
    result = run_limited(model, plan, case, memory * 10**6, steps)
    if as_json:
        typer.echo(json.dumps(result.to_document(), indent=2))
        return
    typer.echo(
        f"{result.model}: {result.parameters:,} parameters, density {result.density:.3g}, batch "
        f"{result.batch_size} in micro-batches of {result.micro_batch}\n"
        f"limit      {result.limit_mb:.0f} MB by {result.kind}\n"
        f"predicted  {result.predicted_mb:.0f} MB\n"
        f"measured   {result.peak_rss_mb:.0f} MB highest resident memory of the process"
    )
    if result.group_peak_mb is not None:
        typer.echo(f"           {result.group_peak_mb:.0f} MB highest use of the control group")
    typer.echo(f"step       {result.step_ms:.0f} ms, median of {result.steps}")


@app.command()
def devices(
    boards: Annotated[
        str, typer.Option(help="Boards by commas; by default eight, from a Zero 2 W to an Orin.")
    ] = "",
    models: Annotated[str, typer.Option(help="mnist, har, resnet, by commas.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Of training, in each run.")] = 8,
    part: Annotated[
        list[Part] | None, typer.Option(help="Measure this only; may be given again.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=200, help="That wait for a job.")] = 50,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless everything holds.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Where the results go; the runs lie in a folder beside it.")
    ] = Path("out/bench/devices.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """What emulated boards choose, predict and take, under real limits; about 35 minutes.

    Eight boards train three models, each alone: level, predicted and measured memory and time.
    Then a device of 64 MB, a link that loses and is cut, and 50 clients that wait.
    """
    from tools.bench.devices.cases import BOARDS, MODELS
    from tools.bench.devices.command import DevicesRequest, run_devices

    holds = run_devices(
        DevicesRequest(
            boards=_listed(boards) or BOARDS,
            models=_listed(models) or tuple(MODELS),
            rounds=rounds,
            parts=tuple(part or Part),
            clients=clients,
            output=output,
            as_json=as_json,
        )
    )
    raise typer.Exit(int(strict and not holds))


@app.command()
def transport(
    part: Annotated[
        list[TransportPart] | None, typer.Option(help="Measure this only; may be given again.")
    ] = None,
    clients: Annotated[int, typer.Option(min=4, max=5000, help="Of the part load.")] = 1000,
    tls: Annotated[int, typer.Option(min=0, help="Of these, with certificates.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Of the part load.")] = 20,
    profile: Annotated[
        bool, typer.Option("--profile", help="Load with the aggregator under cProfile: slower.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A little of each: to try it, not to report it.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of broken frames.")] = 0,
    faults: Annotated[Path, typer.Option(help="The table that the tests of faults leave.")] = Path(
        "out/faults.json"
    ),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless everything holds.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Where the results go; what is not measured now stays in it.")
    ] = Path("out/bench/transport.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """What the transport costs and bears: bytes, waiting, memory, a thousand clients, bad frames.

    Needs mosquitto; about 15 minutes on two idle cores. docs/transport.md says what each figure is.
    """
    from dataclasses import replace

    from tools.bench.transport.command import QUICK, Amounts, TransportRequest, run_transport

    if tls > clients:
        raise typer.BadParameter(f"{tls} of {clients} clients", param_hint="--tls")
    amounts = QUICK if quick else Amounts()
    if not quick:
        load = replace(amounts.load, clients=clients, tls=tls, rounds=rounds, profile=profile)
        amounts = replace(amounts, load=load)
    holds = run_transport(
        TransportRequest(
            amounts=amounts,
            parts=tuple(part or TransportPart),
            seed=seed,
            faults=faults,
            output=output,
            as_json=as_json,
        )
    )
    raise typer.Exit(int(strict and not holds))


@app.command()
def fuzz(
    frames: Annotated[int, typer.Option(min=1, help="Broken frames for the decoder.")] = 1_000_000,
    messages: Annotated[
        int, typer.Option(min=1, help="Broken messages in the middle of rounds.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Broken frames through the decoder, both channels and both state machines.

    Exit codes: 0 nothing was raised and nothing grew, 1 something was or did.
    """
    from tools.bench.transport.command import run_fuzz

    raise typer.Exit(int(not run_fuzz(frames, messages, seed, as_json=as_json)))


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A model of the zoo, or a plan.json.")],
    density: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Kept fraction.")] = 0.1,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 32,
    micro_batch: Annotated[
        int, typer.Option(min=0, help="Samples that go through at once; 0 = the batch.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of a step.")] = 1,
    dense: Annotated[
        str,
        typer.Option(help="Nodes that take dense kernels, by commas; all = every node."),
    ] = "",
    steps: Annotated[int, typer.Option(min=1, help="How many are timed.")] = 30,
    by: Annotated[Grouping, typer.Option(help="What is added up.")] = Grouping.CALL,
    rows: Annotated[int, typer.Option(min=0, help="Rows of the table; 0 = all.")] = 0,
    variant: Annotated[
        Variant | None, typer.Option(help="Vectors; by default what fits best.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every call as JSON.")] = False,
) -> None:
    """Where the time of a sparse training step goes: its kernel calls, timed one by one.

    "of peak" is the share of the machine's measured multiply-add rate; "GB/s" counts the buffers
    that a call reads or writes, each once, weights and indices aside.
    """
    import json

    from rich.console import Console

    from edge_client.bench.case import weight_names
    from edge_client.runtime.setup import EngineSetup
    from fedsparse.plan.finding import find_plan
    from tools.bench.profile import measure_profile, profile_table

    plan = find_plan(model)
    names = weight_names(plan) if dense == "all" else [f"{one}.weight" for one in _listed(dense)]
    result = measure_profile(
        plan,
        density,
        {"batch_size": batch, "threads": threads},
        steps=steps,
        variant=variant.value if variant else None,
        setup=EngineSetup(
            micro_batch=micro_batch or batch, threads=threads, dense_layers=tuple(names)
        ),
    )
    if as_json:
        typer.echo(json.dumps(result.to_document(), indent=2))
    else:
        Console().print(profile_table(result, by.value, rows))


@app.command()
def paper(
    experiment: Annotated[
        str, typer.Argument(help="A shipped experiment, or the path of a .toml file.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="The short form: minutes; prints a summary as JSON.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train; by default one a core.")
    ] = None,
    output: Annotated[Path, typer.Option(help="A folder in it for each experiment.")] = Path(
        "out/paper"
    ),
    only: Annotated[str, typer.Option(help="Run these cases only, by commas.")] = "",
    listing: Annotated[
        bool, typer.Option("--list", help="List the experiments, or the runs of the one named.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; report what is finished.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run an experiment of the paper: its table, its figures, what was expected.

    Only what is missing is run. After Ctrl-C, SIGTERM, a kill or a failure the
    same command goes on from the last snapshot of each run.

    The table is printed on stdout, progress on stderr; both tables and figures
    are kept in a folder of the experiment's name.

    Exit codes: 0 all runs are finished, 1 a run failed, 2 a file, a folder or
    an option is at fault, 130 Ctrl-C, 143 SIGTERM.
    """
    from tools.bench.paper.command import PaperRequest, choose, list_paper, run_paper

    name = choose(experiment, quick=quick, listing=listing)
    if listing:
        typer.echo("\n".join(list_paper(name, output)))
        return
    request = PaperRequest(
        experiment=name,
        output=output,
        workers=workers,
        only=_listed(only),
        report_only=report_only,
        as_json=as_json,
        quick=quick,
    )
    raise typer.Exit(run_paper(request))


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
