"""The JSON file of a benchmark: what was measured, with what, and by which command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from edge_client.bench.machine import describe_machine, describe_versions
from edge_client.runtime.native.library import load_library


def header(**about: Any) -> dict[str, Any]:  # noqa: ANN401
    """Machine, versions and command, and what else is to be said of all results."""
    return {
        "machine": describe_machine(load_library()),
        "versions": describe_versions(),
        **about,
        "command": shlex.join(["fedsparse", *sys.argv[1:]]),
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write it, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def tell_of(path: Path, *, as_json: bool) -> None:
    """Say where the results are; print them on stdout as JSON where that is asked for."""
    typer.echo(f"written to {path}", err=True)
    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
