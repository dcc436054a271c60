"""The options of `edge-client bench`, apart from the command: the agent starts without that."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

MODELS: Final = ("mnist", "har", "resnet")
DENSITIES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL|plan.json",
        help=f"models of the zoo, or plans (default: {' '.join(MODELS)})",
    )
    parser.add_argument(
        "--densities",
        type=_densities,
        default=DENSITIES,
        metavar="D,D,...",
        help="kept fractions (default: 0.05,0.1,0.2,0.5,1.0)",
    )
    parser.add_argument("--batch", type=_positive, default=32, help="samples of a step (32)")
    parser.add_argument("--threads", type=_positive, default=1, help="of a step (1)")
    parser.add_argument("--quick", action="store_true", help="to try it, not to report it")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("fedsparse-bench.json"),
        help="the file to send back (default: fedsparse-bench.json)",
    )
    parser.add_argument("--json", action="store_true", help="print that file, not the table")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def _densities(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not 0 < found[0] <= found[-1] <= 1:
        raise argparse.ArgumentTypeError(
            f"expected fractions in (0, 1] such as 0.05,0.1, got '{text}'"
        )
    return found
