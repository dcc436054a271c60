"""What the pytest plugin gives a test: a board with a way to run things on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.emulation.board_limits import open_board
from edge_client.emulation.confine import confine
from edge_client.emulation.limits import FROM_BOARD, Asked
from edge_client.emulation.link import Link
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource
from edge_client.emulation.run import Outcome, run
from edge_client.emulation.scale import TimeScale
from fedsparse.boards import Board

GROUPS: Final = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
# What a test may require -> what must limit which resource.
REQUIREMENTS: Final[dict[str, dict[Resource, tuple[Mechanism, ...]]]] = {
    "cgroup": {Resource.MEMORY: GROUPS, Resource.CPU: GROUPS},
    "namespace": {Resource.LINK: (Mechanism.NAMESPACE,)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What `@pytest.mark.device(...)` asks for."""

    board: Board
    require: tuple[str, ...]
    scale: TimeScale
    cores: int
    memory: int | Asked
    cpu: float | Asked
    link: Link | Asked
    avoid: tuple[Mechanism, ...]

    @classmethod
    def read(
        cls,
        board: str,
        *,
        require: str | Collection[str] = (),
        scale: float = 1.0,
        cores: int = 1,
        memory: int | Asked = FROM_BOARD,
        cpu: float | Asked = FROM_BOARD,
        link: Link | Asked = FROM_BOARD,
        avoid: Collection[Mechanism] = (),
    ) -> Mark:
        """Read the mark's arguments, which are those of `confine`.

        Raises:
            ConfigError: there is no such board; near names are given.
            ValueError: something else is required than can be, or a figure is out of range.
        """
        required = (require,) if isinstance(require, str) else tuple(require)
        for one in required:
            if one not in REQUIREMENTS:
                raise ValueError(f"require={one!r}: take one of {', '.join(REQUIREMENTS)}")
        return cls(
            board=open_board(board),
            require=required,
            scale=TimeScale(factor=scale),
            cores=cores,
            memory=memory,
            cpu=cpu,
            link=link,
            avoid=tuple(avoid),
        )

    def open(self) -> Place:
        """The board's place.

        Raises:
            EmulationError: this host cannot be such a board.
        """
        return confine(
            self.board,
            scale=self.scale,
            memory=self.memory,
            cpu=self.cpu,
            cores=self.cores,
            link=self.link,
            avoid=self.avoid,
        )

    def missing(self, place: Place) -> str | None:
        """What is required and not there, and why; None where nothing is missing."""
        asked = {Resource.MEMORY: self.memory, Resource.CPU: self.cpu, Resource.LINK: self.link}
        for required in self.require:
            for resource, mechanisms in REQUIREMENTS[required].items():
                applied = place.report().of(resource)
                if asked[resource] is not None and applied.mechanism not in mechanisms:
                    return f'require="{required}" is not met on this machine:\n{applied}'
        return None


class Device:
    """A board of a test.

    Attributes:
        board: its profile.
        place: where its processes run: report, usage, changes of link and speed.
    """

    def __init__(self, *, board: Board, place: Place) -> None:
        self.board = board
        self.place = place

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Outcome:
        """Run a command on the board and wait for it.

        Args:
            command: program and arguments.
            timeout_s: in the board's time.
            options: of `subprocess.Popen`, and `input`, text for its standard input.

        Raises:
            EmulationError: it took longer, or could not be started.
        """
        return run(self.place, command, timeout_s=timeout_s, **options)

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        """Start a process on the board; it is killed with the test at the latest."""
        return self.place.start(command, **options)

    def start_client(self, config: Path | str, **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        """Start `edge-client run CONFIG` on the board, with this interpreter.

        Its broker is to be given as `reach` says.
        """
        return self.start([sys.executable, "-m", "edge_client", "run", str(config)], **options)

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where the board finds a service that is at `host` and `port` for us."""
        return self.place.reach(host, port)
