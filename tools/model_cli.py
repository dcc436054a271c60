"""`fedsparse model`: bring a model in, and look at one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, FedSparseError
from fedsparse.plan import Loss, Plan, Shape
from fedsparse.plan.finding import read_plan

app = typer.Typer(no_args_is_help=True, help="Import a model, or show one.")

PatternsOption = list[str] | None


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="my_model.py:Net (it is executed), or model.onnx")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the plan to write")],
    input_shape: Annotated[
        str, typer.Option("--input", help="shape of one sample, without the batch: 3,32,32")
    ] = "",
    weights: Annotated[
        Path | None, typer.Option(help="write the model's own values here, as .npz")
    ] = None,
    dense: Annotated[
        PatternsOption, typer.Option(help="keep the layers of this name (or pattern) dense")
    ] = None,
    prune: Annotated[
        PatternsOption, typer.Option(help="prune the layers of this name (or pattern)")
    ] = None,
    name: Annotated[str, typer.Option(help="of the plan; default: the model's")] = "",
    loss: Annotated[
        Loss, typer.Option(help="cross_entropy: classes; mse: numbers; bce: several yes or no")
    ] = Loss.CROSS_ENTROPY,
    graph: Annotated[
        bool, typer.Option(help="make a model that no plan expresses a training graph")
    ] = True,
    with_graph: Annotated[
        bool, typer.Option("--with-graph", help="add a training graph to a plan of operators, too")
    ] = False,
) -> None:
    """Turn a torch module or an ONNX file into a plan.

    Every convolution and linear layer is pruned but a last linear layer, depthwise convolutions
    and what has less than 1,000 weights; --prune adds to that, --dense takes away and is stronger.
    A torch module with operators that no plan has becomes a training graph (--graph), which devices
    with onnxruntime can train; it is written beside the plan, as .graph. With --with-graph, so is
    the graph of any other model: devices with onnxruntime then take it where it is faster.
    """
    from aggregator.models.importing import import_model
    from aggregator.models.weights import save_weights

    with _errors_in_one_line():
        imported = import_model(
            source,
            input_shape=_parse_shape(input_shape),
            name=name,
            loss=loss,
            prune=prune or (),
            dense=dense or (),
            graph=graph,
            with_graph=with_graph,
        )
        _write(output, imported.plan.to_json().encode())
        if imported.graph is not None:
            _write(output.with_suffix(".graph"), imported.graph.to_bytes())
        if weights is not None:
            save_weights(weights, imported.values)
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)
    Console().print(plan_table(imported.plan))


@app.command()
def show(
    plan: Annotated[Path, typer.Argument(help="a plan, as written by `model import`")],
) -> None:
    """Show a plan's nodes, shapes and parameters."""
    with _errors_in_one_line():
        table = plan_table(read_plan(plan))
    Console().print(table)


def plan_table(plan: Plan) -> Table:
    """One row a node, and the totals."""
    table = Table(
        title=f"{plan.name} {_shape(plan.input_shape)}",
        caption=f"loss {plan.loss.value}, digest {plan.digest[:12]}",
        show_footer=True,
    )
    total = plan.num_prunable + plan.num_dense
    footers = ("total", "", "", f"{total:,}", f"{plan.num_prunable:,}")
    headers = ("node", "operator", "output", "parameters", "prunable")
    for index, (header, footer) in enumerate(zip(headers, footers, strict=True)):
        table.add_column(header, footer, justify="right" if index > 2 else "left", overflow="fold")
    for node in plan.nodes:
        sources = tuple(plan.shapes[source] for source in node.inputs)
        tensors = node.operator.tensors(node.name, sources)
        prunable = sum(tensor.size for tensor in tensors if tensor.prunable)
        table.add_row(
            node.name,
            node.operator.kind,
            _shape(plan.shapes[node.name]),
            f"{sum(tensor.size for tensor in tensors):,}" if tensors else "",
            f"{prunable:,}" if prunable else "",
        )
    return table


def _shape(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)


def _parse_shape(text: str) -> Shape | None:
    if not text:
        return None
    sizes = text.replace("x", ",").split(",")
    if not all(size.strip().isascii() and size.strip().isdigit() and int(size) for size in sizes):
        raise ConfigError(f"--input {text}: expected positive sizes such as 6,100")
    return tuple(int(size) for size in sizes)


def _write(path: Path, data: bytes) -> None:
    try:
        write_durably(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except FedSparseError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
