"""`edge-client`: the device's command line (argparse, so that it starts fast)."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_client.lean import OPENSSL_HASHES, TLS, leave_out
from fedsparse import __version__
from fedsparse.errors import FedSparseError

EXIT_ERROR: Final = 2
LOG_FORMAT: Final = "time=%(asctime)s level=%(levelname)s %(message)s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 with the error on stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    leave_out(TLS, OPENSSL_HASHES)
    from edge_client.agent.main import run

    try:
        return run(options.config)
    except (FedSparseError, OSError) as error:
        sys.stderr.write(f"edge-client: {error}\n")
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-client",
        description="A fedsparse device: trains the density that it can afford on its own data.",
        epilog="Exit codes: 0 stopped by a signal, 2 a file or the device's data is at fault.",
    )
    parser.add_argument("--version", action="version", version=f"edge-client {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="take part in the jobs of an aggregator")
    run.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    run.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="how much to say on stderr (default: info)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
