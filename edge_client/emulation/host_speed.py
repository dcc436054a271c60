"""How fast the training kernels run on this machine, against which boards are scaled.

Measured once with the kernels that devices train with, in a process of its own, and kept in
`~/.cache/fedsparse/` until kernels, processor or system change. Imports no numpy.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.own_module import own_environment, own_module
from fedsparse.durable import write_durably

log = logging.getLogger("fedsparse.emulation")

MODULE: Final = "edge_client.emulation.measure_speed"
VERSION: Final = 2
FILE: Final = "host-speed.json"
PATIENCE_S: Final = 120.0
KERNELS: Final = Path(__file__).resolve().parents[1] / "runtime" / "native" / "libfedsparse.so"
SLOWEST: Final = 1e6
FASTEST: Final = 1e13


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpeed:
    """The speed of one thread on this machine.

    Attributes:
        multiply_adds_per_s: the geometric mean over the models.
        models: model -> its own figure, the best of several runs: other work only slows it down.
        basis: `measured`, or `given` by whoever asked for an emulation.
    """

    multiply_adds_per_s: float
    models: Mapping[str, float]
    basis: str = "measured"

    def __post_init__(self) -> None:
        if not SLOWEST <= self.multiply_adds_per_s <= FASTEST:
            raise ValueError(f"a speed of {self.multiply_adds_per_s} multiply-adds per second")


def host_speed(*, fresh: bool = False, cache: Path | None = None) -> HostSpeed:
    """This machine's speed: as kept, or measured now (some seconds).

    Args:
        fresh: measure, even where a figure is kept.
        cache: folder that keeps it.

    Raises:
        EmulationError: the measurement failed; the message has its last words.
    """
    path = (cache or default_cache()) / FILE
    key = _machine()
    if not fresh and (kept := _read(path, key)):
        return kept
    with _alone(path):  # many may begin at once: one measures, the others read
        kept = None if fresh else _read(path, key)
        return kept or _kept(_measured(), path, key)


def given_speed(multiply_adds_per_s: float) -> HostSpeed:
    """A speed that somebody states."""
    return HostSpeed(multiply_adds_per_s=multiply_adds_per_s, models={}, basis="given")


def measure(run: Callable[[], str] | None = None) -> HostSpeed:
    """Measure now.

    Args:
        run: gives the JSON of the measurement, model -> speed.

    Raises:
        EmulationError: it failed.
    """
    text = (run or _run)()
    try:
        models = {str(name): float(speed) for name, speed in json.loads(text).items()}
        mean = math.exp(math.fsum(map(math.log, models.values())) / len(models))
        return HostSpeed(multiply_adds_per_s=mean, models=models)
    except (ValueError, AttributeError, ZeroDivisionError) as error:
        raise EmulationError(f"the speed of this machine was not measured: {error}") from error


def default_cache() -> Path:
    """Where figures of this machine are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fedsparse"


def _measured() -> HostSpeed:
    log.info("measuring the speed of this machine's training kernels, once: some seconds")
    speed = measure()
    log.info("this machine does %.3g multiply-adds per second", speed.multiply_adds_per_s)
    return speed


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; where nothing can be kept, nothing needs to be waited for."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w", encoding="ascii")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run() -> str:
    try:
        done = subprocess.run(  # noqa: S603 (our own module)
            own_module(MODULE),
            env=own_environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmulationError(f"the speed of this machine was not measured: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EmulationError(f"the speed of this machine was not measured: {last}")
    return done.stdout


def _kept(speed: HostSpeed, path: Path, key: str) -> HostSpeed:
    document = {"version": VERSION, "machine": key, **asdict(speed)}
    with suppress(OSError):  # nowhere to keep it: it is measured again next time
        write_durably(path, json.dumps(document, indent=2).encode() + b"\n")
    return speed


def _read(path: Path, key: str) -> HostSpeed | None:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if (document["version"], document["machine"]) != (VERSION, key):
            return None
        return HostSpeed(
            multiply_adds_per_s=float(document["multiply_adds_per_s"]),
            models=dict(document["models"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """What a figure holds for: kernels, processor, system."""
    try:
        kernels = hashlib.sha256(KERNELS.read_bytes()).hexdigest()[:16]
    except OSError:
        kernels = "none"
    return "; ".join([kernels, platform.machine(), platform.release(), _processor()])


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    return "unknown processor"
