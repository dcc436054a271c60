"""What a body of many megabytes costs in memory at both ends, through a real broker."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fedsparse.body import File, digest_of
from tools.bench.transport.process_usage import memory_mb
from tools.bench.transport.words import Listener
from tools.broker import start_broker

MOST_GROWTH_MB: Final = 4.0
LOOK_S: Final = 0.02
BLOCK_BYTES: Final = 1_000_000
ENDS: Final = ("device", "gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeModelResult:
    """One direction; MB are 1e6 bytes.

    Attributes:
        direction: `up` from the device, or `down`.
        body_mb: of the body.
        idle_mb: resident memory by end, before: warm, with nothing to do.
        growth_mb: by end, what it had more at its highest; of what lies in memory alone and no
            other process shares, `growth_pss_mb`.
        whole: whether the right bytes have come.
    """

    direction: str
    body_mb: float
    idle_mb: dict[str, float]
    growth_mb: dict[str, float]
    growth_pss_mb: dict[str, float]
    whole: bool

    @property
    def holds(self) -> bool:
        """Whether both ends stay small."""
        return self.whole and max(self.growth_mb.values()) <= MOST_GROWTH_MB

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}


def measure_large_model(body_bytes: int, direction: str, folder: Path) -> LargeModelResult:
    """Send one body in one direction, between two processes.

    Raises:
        WorkerError: it does not arrive.
        ConfigError: mosquitto is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body = _random_file(folder / "body", body_bytes)
    sender, receiver = ENDS if direction == "up" else reversed(ENDS)
    with _processes(folder) as processes:
        words = {name: Listener([process]) for name, process in processes.items()}
        for name in ENDS:
            words[name].all_say("warm", True)
        idle = {name: memory_mb(one.pid) for name, one in processes.items()}
        with _watched(processes) as highest:
            about = {"path": str(body.path), "size": body.size, "digest": body.digest}
            words[sender].tell({"send": about})
            arrived = words[receiver].all_say("arrived", True)[0]["arrived"]
        for one in words.values():
            one.tell({"end": True})
    return LargeModelResult(
        direction=direction,
        body_mb=body_bytes / 1e6,
        idle_mb={name: idle[name]["Rss"] for name in ENDS},
        growth_mb={name: highest[name]["Rss"] - idle[name]["Rss"] for name in ENDS},
        growth_pss_mb={name: highest[name]["Pss"] - idle[name]["Pss"] for name in ENDS},
        whole=arrived == body.digest,
    )


@contextmanager
def _processes(folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Both ends, through a broker; all have ended when the block is left."""
    with ExitStack() as stack:
        broker = start_broker(folder / "broker", prefer="mosquitto")
        stack.callback(broker.stop)
        processes = {}
        for name in reversed(ENDS):  # the gateway first: it is to hear the device's first word
            process = processes[name] = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "tools.bench.transport.large_end", name,
                 str(folder / name), str(broker.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
        yield processes
        for process in processes.values():
            process.wait(10.0)


@contextmanager
def _watched(
    processes: dict[str, subprocess.Popen[bytes]],
) -> Iterator[dict[str, dict[str, float]]]:
    """The highest of each figure while the block lasts."""
    highest = {name: dict.fromkeys(("Rss", "Pss"), 0.0) for name in processes}
    over = threading.Event()

    def look() -> None:
        for name, process in processes.items():
            now = memory_mb(process.pid)
            for key in highest[name]:
                highest[name][key] = max(highest[name][key], now[key])

    def watch() -> None:
        while not over.wait(LOOK_S):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
        look()
    finally:
        over.set()
        thread.join()


def _random_file(path: Path, size: int) -> File:
    draw = random.Random(3)  # noqa: S311 (no secret)
    with path.open("wb") as file:
        for offset in range(0, size, BLOCK_BYTES):
            file.write(draw.randbytes(min(BLOCK_BYTES, size - offset)))
    return File(path=path, size=size, digest=digest_of(File(path=path, size=size, digest="")))
