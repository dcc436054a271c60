"""Which run of a job a folder holds: a number of its own, for no two are to be taken for one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.wire.messages import RUN_BYTES

RUN: Final = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job.

    Attributes:
        number: `RUN_BYTES` random bytes.
        started_ms: when it began, milliseconds since 1970.
    """

    number: bytes
    started_ms: int

    def __post_init__(self) -> None:
        if len(self.number) != RUN_BYTES or self.started_ms < 0:
            raise ValueError("no run")


def run_in(folder: Path, now_ms: int) -> Run:
    """The run of a job's folder; a new one where it holds none.

    Raises:
        ConfigError: the file that says so is damaged.
        OSError: it can be neither read nor written.
    """
    path = folder / RUN
    if not path.exists():
        run = Run(number=os.urandom(RUN_BYTES), started_ms=now_ms)
        document = {"run": run.number.hex(), "started_ms": run.started_ms}
        write_durably(path, (json.dumps(document) + "\n").encode())
        return run
    try:
        found = json.loads(path.read_bytes())
        return Run(number=bytes.fromhex(found["run"]), started_ms=int(found["started_ms"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}): remove it; the job then goes on as another run, and "
            "offers its open round again"
        ) from error
