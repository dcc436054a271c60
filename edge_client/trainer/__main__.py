"""`python -m edge_client.trainer REQUEST`: do what a request file says, then exit."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Final

from edge_client.lean import OPENSSL_HASHES, leave_out
from edge_client.trainer.request import (
    EXIT_BAD_DATA,
    EXIT_NO_MEMORY,
    EXIT_OK,
    EXIT_REFUSED,
    LESS_MEMORY,
    CalibrateRequest,
    read_request,
)
from fedsparse.errors import DataError, FedSparseError
from fedsparse.stopping import die_with_parent

OOM_SCORE: Final = "800"


def main(arguments: list[str]) -> int:
    """Run one request; returns the exit code (edge_client/trainer/request.py)."""
    leave_out(OPENSSL_HASHES)
    die_with_parent()
    _be_first_to_go()
    try:
        request = read_request(Path(arguments[0]))
        if isinstance(request, CalibrateRequest):
            from edge_client.trainer.calibrate import run_calibration

            run_calibration(request)
            return EXIT_OK
        from edge_client.trainer.train import run_task

        code = run_task(request)
        if code == EXIT_OK and request.identity:
            from edge_client.identity.sign import become

            become(
                unsigned=request.trained,
                output=Path(request.output),
                identity=Path(request.identity),
                topic=request.topic,
            )
        return code
    except MemoryError as error:
        sys.stderr.write(f"out of memory: {error or 'the system gave no more'}; {LESS_MEMORY}\n")
        return EXIT_NO_MEMORY
    except (FedSparseError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return EXIT_BAD_DATA if isinstance(error, DataError) else EXIT_REFUSED


def _be_first_to_go() -> None:
    """Where memory runs out, the kernel is to end the task, not the agent."""
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    except OSError:
        sys.stderr.write("note: oom_score_adj is not writable here\n")


if __name__ == "__main__":
    gc.disable()  # what one task leaves behind goes with its process: collecting it takes time
    exit_code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(exit_code)  # the update is on the disk; taking an interpreter apart takes time, too
