"""`edge-client bench`: what training costs on this board, in a table and a file to send back.

Needs what a device needs, no more. The command itself imports no numpy: engines work in processes
of their own, one at a time, so that a small board holds only one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.figures import MB, device_engine, device_figures
from edge_client.bench.limits import Limits, measure_limits
from edge_client.bench.machine import describe_machine, describe_versions, read_celsius
from edge_client.bench.options import MODELS
from edge_client.bench.race import draw_inputs, race
from edge_client.bench.table import limits_lines, machine_lines, results_lines
from edge_client.probe.memory import read_memory
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.native.library import load_library
from edge_client.runtime.setup import EngineSetup
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from fedsparse.plan.finding import find_plan

FORMAT: Final = "fedsparse.bench"
VERSION: Final = 1
BASELINE_BYTES: Final = 40_000_000  # of a worker before its engine: Python, numpy, the samples
BLOCK_S: Final = 0.2
ROUNDS: Final = 9
QUICK_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `edge-client bench` was asked for."""

    models: tuple[str, ...]
    densities: tuple[float, ...]
    batch_size: int
    threads: int
    rounds: int
    output: Path
    as_json: bool


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the file, print the table; returns the exit code.

    Raises:
        ConfigError: a model is unknown, or the file cannot be written.
        EngineError: the kernels do not load, or do not run a plan.
        WorkerError: an engine's process died.
    """
    options = BenchOptions(
        models=tuple(arguments.models) or MODELS,
        densities=arguments.densities,
        batch_size=arguments.batch,
        threads=arguments.threads,
        rounds=QUICK_ROUNDS if arguments.quick else ROUNDS,
        output=arguments.output,
        as_json=arguments.json,
    )
    plans = {name: find_plan(name) for name in options.models}
    _check(plans, options)
    document = measure(plans, options)
    text = json.dumps(document, indent=2) + "\n"
    try:
        write_durably(options.output, text.encode())
    except OSError as error:
        raise ConfigError(f"{options.output}: cannot be written: {error.strerror}") from error
    sys.stdout.write(text if options.as_json else "\n".join(_page(document)) + "\n")
    sys.stderr.write(f"written to {options.output}; docs/runtime.md says where to send it\n")
    return 0


def _check(plans: Mapping[str, Plan], options: BenchOptions) -> None:
    """What would only be found after minutes of measuring."""
    for name, plan in plans.items():
        if plan.is_opaque:
            raise ConfigError(
                f"'{name}' is a training graph, whose time does not fall with density: this "
                "measures the native kernels; name a plan of operators"
            )
    EngineSetup(micro_batch=options.batch_size, threads=options.threads)  # refuses too many
    folder = options.output.parent
    if options.output.is_dir() or (folder.exists() and not os.access(folder, os.W_OK)):
        raise ConfigError(f"{options.output}: cannot be written: choose another --output")


def measure(plans: Mapping[str, Plan], options: BenchOptions) -> dict[str, Any]:
    """The document that is written."""
    library = load_library()
    machine = describe_machine(library)
    _say("measuring the limits of the machine")
    every = {name: measure_limits(library, variant=name) for name in library.variants}
    limits = every[library.variants[0]]
    models: dict[str, dict[str, Any]] = {}
    total = len(plans) * len(options.densities)
    for name, plan in plans.items():
        for density in options.densities:
            done = sum(len(rows) for rows in models.values())
            _say(f"{name} at density {density:g} ({done + 1} of {total})")
            rows = models.setdefault(name, {})
            rows[str(float(density))] = _measured(plan, density, options, limits)
    return {
        "format": FORMAT,
        "version": VERSION,
        "machine": {**machine, "celsius_after": read_celsius()},
        "versions": describe_versions(),
        "limits": {name: one.to_document() for name, one in every.items()},
        "batch_size": options.batch_size,
        "threads": options.threads,
        "rounds": options.rounds,
        "plans": {name: plan.digest for name, plan in plans.items()},
        "models": models,
    }


def _measured(plan: Plan, density: float, options: BenchOptions, limits: Limits) -> dict[str, Any]:
    """The figures of a row, or why there are none."""
    case = Case(kept=kept_at(plan, density), batch_size=options.batch_size, threads=options.threads)
    needed = BASELINE_BYTES + sparse_cost(plan, case.kept, case.batch_size).peak_bytes
    available = read_memory().available_bytes
    if needed > available:
        reason = f"needs {needed / MB:.0f} MB, {available / MB:.0f} MB are available"
        return {"skipped": reason}
    with tempfile.TemporaryDirectory(prefix="fedsparse-bench-") as folder:
        write_case(Path(folder), plan, case)
        draw_inputs([Path(folder)])
        contestant = device_engine("sparse", "sparse", folder, options.threads)
        results = race([contestant], rounds=options.rounds, block_s=BLOCK_S, mask_changes=3)
    return device_figures(plan, case, results["sparse"], limits)


def _page(document: Mapping[str, Any]) -> Sequence[str]:
    return [
        *machine_lines(document["machine"], document["versions"]),
        *limits_lines(document["limits"]),
        "",
        *results_lines(document["models"], document["batch_size"], document["threads"]),
    ]


def _say(what: str) -> None:
    sys.stderr.write(f"{what} ...\n")
