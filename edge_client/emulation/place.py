"""A place on this machine where processes have a board's means, and no more."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from edge_client.emulation.belongings import Belongings
from edge_client.emulation.cpu import CpuHold
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.groups import Groups
from edge_client.emulation.link import Link
from edge_client.emulation.members import MARK, end_all, marked, with_children
from edge_client.emulation.memory import MemoryHold
from edge_client.emulation.network import LinkHold
from edge_client.emulation.report import Applied, Report, Usage
from edge_client.emulation.sampler import Sampler
from edge_client.emulation.scale import TimeScale
from edge_client.emulation.watch import WATCH

NOT_JOINED: Final = 125  # exit code of a process that could not be limited and was not started
GONE: Final = "fedsparse: {0} has gone, so nothing would limit this process: not started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What limits each resource."""

    memory: MemoryHold
    cpu: CpuHold
    link: LinkHold

    def applied(self) -> tuple[Applied, ...]:
        """How each is limited, now."""
        return self.memory.applied, self.cpu.applied, self.link.applied


class Place:
    """Processes with limits; made by `edge_client.emulation.confine.confine`.

    When it closes, all its processes are killed and everything that limited them is taken away.
    """

    def __init__(
        self, name: str, board: str | None, scale: TimeScale, groups: Groups, holds: Holds
    ) -> None:
        self.name = name
        self.board = board
        self.scale = scale
        self._groups = groups.each()
        self._holds = holds
        self._belongings = Belongings(place=name, groups=tuple(self._groups))
        self._started: list[subprocess.Popen[Any]] = []
        self._began_s = time.monotonic()
        self._final: tuple[Usage, Report] | None = None
        counted = holds.memory.peak_bytes() is not None and holds.cpu.used_s() is not None
        self._sampler = None if counted else Sampler(self._members_now)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that enters the place and then becomes `command`.

        For whoever starts processes in a way of his own; `start` does it with less.
        """
        steps = [f"export {MARK}={shlex.quote(self.name)}"]
        for group in self._groups:
            path = shlex.quote(str(group.processes))
            gone = shlex.quote(GONE.format(group.folder))
            steps.append(f"{{ [ -e {path} ] && echo $$ > {path}; }} 2>/dev/null || "
                         f"{{ echo {gone} >&2; exit {NOT_JOINED}; }}")  # fmt: skip
        steps += [step for step in (self._holds.cpu.script, self._holds.memory.script) if step]
        steps.append(f'exec {self._holds.link.script} "$@"')
        return ["/bin/sh", "-c", "\n".join(steps), "sh", *command]

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> subprocess.Popen[Any]:
        """Start a process in the place.

        Args:
            command: program and arguments.
            env: its environment; by default ours.
            options: of `subprocess.Popen`. It leads a session of its own unless they say otherwise.

        Raises:
            EmulationError: there is no such program, or what limits the place has gone.
        """
        if self._final is not None:
            raise EmulationError(f"{self.name} is closed: nothing can be started in it")
        environment = os.environ if env is None else env
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            raise EmulationError(f"there is no program '{command[0]}'")
        for group in self._groups:
            if not group.processes.exists():
                raise group.gone()
        options.setdefault("start_new_session", True)
        process = subprocess.Popen(  # noqa: S603 (what the caller wants to run)
            # The mark from its first moment on: it may be stopped before it has joined.
            self.command(command),
            env={**environment, MARK: self.name},
            **options,
        )
        self._started.append(process)
        self._holds.cpu.watch(process.pid)
        return process

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where processes of the place find a service that is at `host` and `port` for us.

        Through a proxy, only what goes there is limited and counted.
        """
        return self._holds.link.reach(host, port)

    def report(self) -> Report:
        """How the place is limited, now."""
        if self._final is not None:
            return self._final[1]
        return Report(board=self.board, scale=self.scale.factor, applied=self._holds.applied())

    def usage(self) -> Usage:
        """What was used so far; of a closed place, in all."""
        if self._final is not None:
            return self._final[0]
        if self._sampler:
            self._sampler.read()
        memory, cpu = self._holds.memory, self._holds.cpu
        peak_bytes, used_s = memory.peak_bytes(), cpu.used_s()
        if self._sampler:
            peak_bytes = self._sampler.peak_bytes if peak_bytes is None else peak_bytes
            used_s = self._sampler.cpu_s if used_s is None else used_s
        up_bytes, down_bytes = self._holds.link.counts() or (None, None)
        return Usage(
            peak_memory_bytes=peak_bytes,
            memory_kills=memory.kills(),
            cpu_s=used_s,
            throttled_s=cpu.throttled_s(),
            up_bytes=up_bytes,
            down_bytes=down_bytes,
        )

    def forget_peak(self) -> bool:
        """Look for the peak of memory anew; False where the kernel goes on from the old one."""
        if self._holds.memory.peak_bytes() is not None:
            return self._holds.memory.forget_peak()
        if self._sampler:
            self._sampler.start_over()
        return True

    def board_s(self) -> float:
        """Seconds of the board since the place was opened."""
        return self.scale.board_s(time.monotonic() - self._began_s)

    def change_memory(self, size_bytes: int) -> None:
        """Another limit from now on; an address space, only for processes that start from now on.

        Raises:
            EmulationError: more is in use already, or memory is not limited here.
        """
        self._holds.memory.change(size_bytes)

    def change_speed(self, factor: float) -> None:
        """From now on as fast as `factor` times the board: 0.5 for one that is hot.

        Raises:
            EmulationError: this host cannot, or processor time is not limited here.
        """
        self._holds.cpu.change(factor)

    def change_link(self, link: Link) -> None:
        """Another link from now on; its cuts count from the opening of the place.

        Raises:
            EmulationError: the mechanism in use cannot become such a link, or there is none.
        """
        self._holds.link.change(link)

    def cut_link(self, for_s: float | None = None) -> None:
        """Cut the link for so many seconds of the board; None = until `restore_link`.

        Raises:
            EmulationError: there is no link.
        """
        self._holds.link.cut(on=True, for_s=for_s)

    def restore_link(self) -> None:
        """End a cut that `cut_link` began."""
        self._holds.link.cut(on=False)

    def members(self) -> set[int]:
        """The processes in it, at this moment."""
        return self._belongings.members() | with_children(self._running())

    def close(self) -> None:
        """Kill what runs, and take everything away; a second time does nothing."""
        if self._final is not None:
            return
        with ExitStack() as stack:  # in this order from below; each, whatever the others do
            stack.callback(WATCH.closed, self.name)
            stack.callback(self._belongings.remove)
            stack.callback(self._holds.link.close)
            stack.callback(self._holds.cpu.close)
            if self._sampler:
                stack.callback(self._sampler.close)
            stack.callback(self._reap)
            end_all(self.members)
            self._final = (self.usage(), self.report())

    def _reap(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _members_now(self) -> set[int]:
        """As `members`, found fast and often."""
        if self._groups:
            return self._groups[0].members()
        return with_children(self._running()) or marked(self.name)

    def _running(self) -> list[int]:
        return [one.pid for one in self._started if one.returncode is None]
