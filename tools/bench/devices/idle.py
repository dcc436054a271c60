"""What waiting costs: the memory of many clients that are connected and have nothing to do."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.bench.race import WorkerError
from edge_client.emulation.host_speed import host_speed
from tools.demo.processes import Children, ended_by_signals
from tools.demo.views import View
from tools.emulate.fleet_file import Fleet
from tools.emulate.pace import this_machine
from tools.emulate.setup import set_up
from tools.emulate.stage import open_stage
from tools.run_folder import clear_folder

MOST_MB: Final = 30.0
PATIENCE_S: Final = 300.0
LOOK_S: Final = 0.2
CONNECTED: Final = "broker=connected"
COMMAND: Final = "bench-idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Clients that wait; MB are 1e6 bytes.

    Attributes:
        clients: how many.
        rss_mb: resident memory, the largest client's; `rss_median_mb` the median.
        pss_mb: the same, of pages that clients share each its part.
        total_pss_mb: of all together.
    """

    clients: int
    rss_mb: float
    rss_median_mb: float
    pss_mb: float
    pss_median_mb: float
    total_pss_mb: float

    @property
    def holds(self) -> bool:
        """Whether no client takes more than it may."""
        return self.rss_mb <= MOST_MB

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}


def measure_idle(fleet: Fleet, output: Path, view: View) -> Idle:
    """Start every client of a fleet under the limits of its board, and look once all are connected.

    Raises:
        WorkerError: a client died, or did not connect.
        ConfigError: this host cannot be the fleet.
    """
    setup = set_up(fleet, None, this_machine(host_speed()), output)
    clear_folder(setup.output, COMMAND)
    with ended_by_signals(), open_stage(setup, view) as stage:
        stage.boards.open()
        for name in fleet.devices:
            stage.boards.start(name)
        _wait_until_connected(fleet, stage.children)
        return _measured([stage.children[name].pid for name in fleet.devices])


def _wait_until_connected(fleet: Fleet, children: Children) -> None:
    end_s = time.monotonic() + PATIENCE_S
    left = set(fleet.devices)
    while left:
        for name in sorted(left):
            child = children[name]
            if child.process.poll() is not None:
                raise WorkerError(f"the client {name} ended: see {child.log}")
            if CONNECTED in child.log.read_text(encoding="utf-8", errors="replace"):
                left.discard(name)
        if left and time.monotonic() > end_s:
            raise WorkerError(f"{len(left)} clients did not connect within {PATIENCE_S:.0f} s")
        if left:
            time.sleep(LOOK_S)


def _measured(pids: list[int]) -> Idle:
    sizes = [_sizes(Path(f"/proc/{pid}/smaps_rollup")) for pid in pids]
    rss, pss = [one["Rss"] for one in sizes], [one["Pss"] for one in sizes]
    return Idle(
        clients=len(pids),
        rss_mb=max(rss),
        rss_median_mb=statistics.median(rss),
        pss_mb=max(pss),
        pss_median_mb=statistics.median(pss),
        total_pss_mb=sum(pss),
    )


def _sizes(path: Path) -> dict[str, float]:
    """MB by name."""
    fields = (line.split() for line in path.read_text(encoding="ascii").splitlines()[1:])
    return {name.rstrip(":"): int(size) * 1024 / 1e6 for name, size, *_ in fields}
