"""Whether a trainer would start: the compiled kernels, and all that it imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from edge_client.runtime.native.library import LIBRARY, REBUILD, Library
from fedsparse.doctor.row import Row, fail, ok
from fedsparse.errors import EngineError

IMPORTS: Final = "import edge_client.trainer.train"
PATIENCE_S: Final = 120.0
AGAIN: Final = "pip install --force-reinstall fedsparse"


def trainer_rows() -> Iterator[Row]:
    """The kernels, and a process that imports what a trainer does."""
    try:
        yield ok("kernels", f"{LIBRARY.name}: {', '.join(Library().variants)}")
    except EngineError as error:
        yield fail("kernels", str(error).removesuffix(f": {REBUILD}"), REBUILD)
    yield imports_row((sys.executable, "-c", IMPORTS))


def imports_row(command: tuple[str, ...]) -> Row:
    """A broken numpy ends a process in many ways, so another one tries it."""
    try:
        done = subprocess.run(  # noqa: S603 (our own command)
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return fail("trainer", f"not started within {PATIENCE_S:g} s", "end other programs")
    except OSError as error:
        return fail("trainer", f"cannot be started: {error}", "end other programs")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return fail("trainer", f"does not start: {said}", AGAIN)
    return ok("trainer", "starts")
