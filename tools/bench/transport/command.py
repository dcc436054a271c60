"""`fedsparse bench transport` and `fedsparse bench fuzz`, from their options to file and table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedsparse.errors import ConfigError, FedSparseError
from tools.bench.document import header, tell_of, write_document
from tools.bench.progress import ProgressLine
from tools.bench.transport.faults import read_faults
from tools.bench.transport.fuzz_frames import fuzz_frames
from tools.bench.transport.fuzz_result import FuzzResult
from tools.bench.transport.fuzz_rounds import fuzz_rounds
from tools.bench.transport.large_model import measure_large_model
from tools.bench.transport.load import LoadRequest, measure_load
from tools.bench.transport.parts import Part
from tools.bench.transport.result import LIMITS, headline, holds, read_parts
from tools.bench.transport.round_bytes import measure_round_bytes
from tools.bench.transport.slow_link import SlowLinkRequest, measure_slow_link

METHOD: Final = (
    "overhead: TCP payload of a round of MNISTNet at density 0.1 both ways, over the values; "
    "resent_ratio, control_wait_s: 8 MB through 400 kB/s, cut every 6 MB, the worse direction; "
    "growth_mb: resident memory of sender or receiver of 45 MB over a warm idle one, the worst; "
    "updates_per_s: from the first update sent to the last receipt received, every update then on "
    "the disk, median of the steady rounds; MB = 1e6 bytes."
)
DIRECTIONS: Final = ("up", "down")
SPARSE, DENSE = 0.1, 1.0
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much is done; `QUICK` shows that it works, and measures nothing.

    Attributes:
        rounds: of the bytes of a round.
        slow: through the slow link.
        large_bytes: of the large model.
        load: on broker and aggregator.
        frames, messages: broken ones through the decoder, and through rounds.
    """

    rounds: int = 20
    slow: SlowLinkRequest = field(default_factory=SlowLinkRequest)
    large_bytes: int = 45_000_000
    load: LoadRequest = field(default_factory=LoadRequest)
    frames: int = 1_000_000
    messages: int = 100_000


QUICK: Final = Amounts(
    rounds=2,
    slow=SlowLinkRequest(body_bytes=2_000_000, cut_every_bytes=1_500_000),
    large_bytes=5_000_000,
    load=LoadRequest(clients=20, processes=2, tls=4, rounds=3),
    frames=5_000,
    messages=1_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportRequest:
    """What is asked for on the command line.

    Attributes:
        amounts: how much.
        parts: what is measured; of the others the file keeps what it has.
        seed: of broken frames.
        faults: the table that the tests of faults have left.
        output: the JSON file; what the runs leave lies in a folder beside it.
    """

    amounts: Amounts
    parts: tuple[Part, ...]
    seed: int
    faults: Path
    output: Path
    as_json: bool


def run_transport(request: TransportRequest) -> bool:
    """Measure, write the results after each part, print them; returns whether everything holds.

    Raises:
        ConfigError: an option is at fault, or the file is of something else.
    """
    if request.output.suffix != ".json":
        raise ConfigError(f"--output {request.output}: give the name of a .json file")
    parts, errors = read_parts(request.output), list[str]()
    with ProgressLine(len(request.parts)) as progress:
        for part in request.parts:
            progress.begin(part.value)
            parts.pop(part.value, None)
            try:
                found = _measure(part, request, progress.tell)
            except FedSparseError as error:  # the others may do
                errors.append(f"{part.value}: {error}")
                typer.echo(errors[-1], err=True)
            else:
                if found is not None:
                    parts[part.value] = found
            progress.end()
            _write(request.output, parts, errors)
    tell_of(request.output, as_json=request.as_json)
    if not request.as_json:
        Console().print(transport_table(parts))
    return not errors and all(holds(parts).values())


def _write(path: Path, parts: dict[str, Any], errors: list[str]) -> None:
    document = {**headline(parts), "holds": holds(parts), "errors": errors, "parts": parts}
    write_document(path, {"header": header(method=METHOD), **document})


def _measure(part: Part, request: TransportRequest, tell: Tell) -> Any:  # noqa: ANN401
    """A part as it is written: an object, or one a row; None where there is nothing to read."""
    amounts, folder = request.amounts, request.output.with_suffix("") / part.value
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    match part:
        case Part.ROUND_BYTES:
            return [_round_bytes(one, amounts, folder, tell) for one in (SPARSE, DENSE)]
        case Part.SLOW_LINK:
            return [_slow_link(one, amounts, folder, tell) for one in DIRECTIONS]
        case Part.LARGE_MODEL:
            return [_large_model(one, amounts, folder, tell) for one in DIRECTIONS]
        case Part.LOAD:
            return measure_load(amounts.load, folder, tell).to_document()
        case Part.FUZZ:
            found = fuzz_both(amounts.frames, amounts.messages, request.seed, tell)
            return [one.to_document() for one in found]
        case Part.FAULTS:
            return read_faults(request.faults)


def _round_bytes(density: float, amounts: Amounts, folder: Path, tell: Tell) -> dict[str, Any]:
    tell(f"density {density:g}", float(density == DENSE) / 2)
    return measure_round_bytes(density, amounts.rounds, folder / f"{density:g}").to_document()


def _slow_link(direction: str, amounts: Amounts, folder: Path, tell: Tell) -> dict[str, Any]:
    before = DIRECTIONS.index(direction) / 2

    def told(share: float) -> None:
        tell(direction, before + share / 2)

    return measure_slow_link(amounts.slow, direction, folder / direction, told).to_document()


def _large_model(direction: str, amounts: Amounts, folder: Path, tell: Tell) -> dict[str, Any]:
    tell(direction, DIRECTIONS.index(direction) / 2)
    target = folder / direction
    result = measure_large_model(amounts.large_bytes, direction, target)
    shutil.rmtree(target)  # large files
    return result.to_document()


def fuzz_both(frames: int, messages: int, seed: int, tell: Tell) -> tuple[FuzzResult, FuzzResult]:
    """Broken frames through the decoder, then through channels and state machines."""
    return (
        fuzz_frames(frames, seed, lambda share: tell("decoder", share / 2)),
        fuzz_rounds(messages, seed, lambda share: tell("rounds", 0.5 + share / 2)),
    )


def run_fuzz(frames: int, messages: int, seed: int, *, as_json: bool) -> bool:
    """Fuzz, print what came of it; returns whether nothing was raised and nothing grew."""
    with ProgressLine(1) as progress:
        progress.begin("fuzz")
        results = fuzz_both(frames, messages, seed, progress.tell)
        progress.end()
    if as_json:
        typer.echo(_to_json(results))
    else:
        for one in results:
            typer.echo(
                f"{one.target}: {one.frames:,} broken frames in {one.wall_s:.0f} s, "
                f"{one.refused:,} refused, {len(one.unexpected)} unexpected errors, "
                f"{one.growth_mb:+.1f} MB"
                + (f", {one.rounds:,} rounds went on" if one.rounds else "")
            )
    for one in results:
        for text in one.unexpected:
            typer.echo(text, err=True)
    return all(one.holds for one in results)


def _to_json(results: tuple[FuzzResult, ...]) -> str:
    return json.dumps([one.to_document() for one in results], indent=2)


def transport_table(parts: dict[str, Any]) -> Table:
    """One row a figure; what was not measured is empty."""
    held = holds(parts)
    table = Table(
        title="what the transport costs and bears",
        caption=", ".join(
            f"{name} {'holds' if ok else 'does NOT hold'}" for name, ok in held.items()
        ),
        box=SIMPLE,
    )
    for name in ("figure", "measured", "promised"):
        table.add_column(name, no_wrap=True, justify="right" if name == "measured" else "left")
    for name, value in headline(parts).items():
        text = (
            "" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
        )
        table.add_row(name, text, LIMITS[name])
    return table
