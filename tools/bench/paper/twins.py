"""Runs that another experiment has made already: where two specs are equal, so are the results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from tools.bench.paper.grid import Run
from tools.bench.paper.records import read_record
from tools.simulation.spec import RECORDS, RESULT, SPEC, claim


def take_twins(runs: Sequence[Run], output: Path) -> list[Run]:
    """Copy, from other experiments, runs that were not begun here; returns those that were taken.

    Args:
        runs: unfinished ones.
        output: the folder with a folder for each experiment. Damaged runs in it are passed over.

    Raises:
        OSError: a copy cannot be written.
    """
    new = [run for run in runs if not run.folder.exists()]
    found = _finished(output) if new else []
    taken = []
    for run in new:
        wanted = run.spec.to_document()
        twin = next((path for path, spec in found if spec == wanted and _is_whole(path, run)), None)
        if twin is None:
            continue
        claim(run.folder, run.spec)
        shutil.copyfile(twin / RECORDS, run.folder / RECORDS)
        write_durably(run.folder / RESULT, (twin / RESULT).read_bytes())  # last: it is finished
        taken.append(run)
    return taken


def _finished(output: Path) -> list[tuple[Path, Any]]:
    """Every finished run in `output`, with what its spec says."""
    found = []
    for result in sorted(output.glob(f"*/runs/*/{RESULT}")):
        try:
            spec = json.loads((result.parent / SPEC).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found.append((result.parent, spec))
    return found


def _is_whole(twin: Path, run: Run) -> bool:
    try:
        record = read_record(twin, case=run.case, alpha=run.alpha, seed=run.seed)
    except ConfigError:
        return False
    return record is not None
