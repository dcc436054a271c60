"""Large bodies on their way here: what has come, what was asked for, and when to ask again.

Who receives asks for the chunks that it wants, so that a sender, a broker's queue and a slow link
never hold more of a transfer than that; what is known of a transfer is known here, and on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedsparse.body import File
from fedsparse.errors import RemoteProtocolError
from fedsparse.transport.options import Limits
from fedsparse.transport.pace import Ceiling
from fedsparse.transport.partial import PartialFile
from fedsparse.wire.frame import Absent
from fedsparse.wire.messages import Message

FORGET_S: Final = 24 * 3600.0  # a body that has not come whole by then is begun anew
UNFINISHED: Final = ".part"
WHOLE: Final = ".body"  # until it is moved elsewhere


@dataclass(slots=True)
class Pull:
    """One body on its way.

    Attributes:
        message: of its latest head.
        absent: what is to come.
        partial: what has come.
        window: chunks that may be asked for at a time.
        asked: chunks that were asked for and have not come.
        heard_s: when the last one came, or its head.
        again_s: when those that were asked for and have not come are to be asked for again.
        stalls: how often that was since the last one came.
    """

    message: Message
    absent: Absent
    partial: PartialFile
    window: int
    heard_s: float
    again_s: float
    asked: set[int]
    stalls: int = 0

    def wanted(self) -> list[int]:
        """The chunks to ask for next; none while more than half of the window is to come."""
        if 2 * len(self.asked) > self.window:
            return []
        rest = sorted(self.partial.missing - self.asked)
        return rest[: self.window - len(self.asked)]


class Pulls:
    """The bodies on their way here, one a peer.

    Args:
        folder: where they are put together.
        limits: the bounds.
        window: how many chunks of a body may be asked for at a time.
        pace: how many bytes of all together.
        clock: seconds, monotonic.

    Attributes:
        pace: likewise.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        window: Callable[[Absent], int],
        pace: Ceiling,
        clock: Callable[[], float],
    ) -> None:
        self.pace = pace
        self._folder = folder
        self._limits = limits
        self._window = window
        self._clock = clock
        self._open: dict[str, Pull] = {}

    def start(self) -> None:
        """Make the folder, and remove what is of no use any more.

        A body that was whole, but not yet moved when the process ended, waits for its next head.

        Raises:
            OSError: the disk does not work.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in [path for path in self._folder.rglob("*") if path.is_file()]:
            # An age by the calendar: a clock that jumped costs a transfer that is begun anew.
            is_old = time.time() - path.stat().st_mtime > FORGET_S
            if is_old or path.suffix not in (UNFINISHED, WHOLE):
                path.unlink()
            elif path.suffix == WHOLE:
                path.replace(path.with_suffix(UNFINISHED))

    def accept(self, peer: str, message: Message, absent: Absent) -> Pull:
        """Begin a transfer, or go on with it; the peer's other one is given up.

        Raises:
            RemoteProtocolError: it is too large.
            OSError: there is no room for it.
        """
        if absent.size > self._limits.transfer_bytes:
            raise RemoteProtocolError(
                f"a body of {absent.size} bytes, limit {self._limits.transfer_bytes}"
            )
        current = self._open.get(peer)
        if current is not None and current.absent == absent:
            current.message = message
            self._hear_again(peer, current)
            return current
        self._end(peer)
        path = self._path(peer, absent, UNFINISHED)
        path.parent.mkdir(exist_ok=True)
        for other in path.parent.glob(f"*{UNFINISHED}"):
            if other != path:
                other.unlink()
        now_s = self._clock()
        pull = self._open[peer] = Pull(
            message=message,
            absent=absent,
            partial=PartialFile(path, absent),
            window=self._window(absent),
            heard_s=now_s,
            again_s=now_s + self._limits.stall_s,
            asked=set(),
        )
        return pull

    def open(self) -> Iterator[tuple[str, Pull]]:
        """All of them, the one that was heard of longest ago first; last those that stalled."""

        def turn(item: tuple[str, Pull]) -> tuple[int, float]:
            return item[1].stalls, item[1].heard_s

        yield from sorted(self._open.items(), key=turn)

    def ask(self, peer: str, pull: Pull) -> list[int]:
        """The chunks to ask for now, as far as window and pace allow; they count as asked for."""
        found: list[int] = []
        if not self.pace.is_low:
            return found
        for index in pull.wanted():
            if not self.pace.allows(pull.absent.length(index)):
                break
            self.pace.sending((peer, index), pull.absent.length(index))
            found.append(index)
        pull.asked.update(found)
        return found

    def has_asked(self, peer: str, transfer: str, index: int) -> bool:
        """Whether a chunk was asked for and has not come."""
        pull = self._open.get(peer)
        return pull is not None and pull.absent.digest == transfer and index in pull.asked

    def add(self, peer: str, transfer: str, index: int, payload: memoryview) -> Pull | None:
        """Take a chunk; its transfer, or None where nobody asked for it.

        Raises:
            RemoteProtocolError: it does not fit.
            OSError: the disk is full, or does not work.
        """
        pull = self._open.get(peer)
        if pull is None or pull.absent.digest != transfer:
            return None
        pull.partial.write(index, payload)
        self.pace.acknowledged((peer, index))
        pull.asked.discard(index)
        pull.heard_s, pull.stalls = self._clock(), 0
        pull.again_s = pull.heard_s + self._limits.stall_s
        return pull

    def finish(self, peer: str) -> File:
        """The body of a transfer that misses nothing; it lies in the folder until it is moved.

        Raises:
            RemoteProtocolError: it has another digest than was said.
        """
        pull = self._open[peer]
        self._end(peer)
        return pull.partial.finish(self._path(peer, pull.absent, WHOLE))

    def lapse(self, *, at_once: bool = False) -> None:
        """What was asked for and does not come is to be asked for again; at last it is left.

        Args:
            at_once: the connection came back without its session: what was on its way is lost.
        """
        now_s = self._clock()
        for peer, pull in list(self._open.items()):
            silent_s = now_s - pull.heard_s
            if silent_s >= self._limits.idle_s:
                self._end(peer)
            elif at_once:
                self._forget_asked(peer, pull)
                pull.again_s = now_s + self._limits.stall_s
            elif now_s >= pull.again_s:
                pull.stalls += bool(pull.asked)
                self._forget_asked(peer, pull)
                pull.again_s = now_s + max(silent_s, self._limits.stall_s)  # after 5, 10, 20, ... s

    def _hear_again(self, peer: str, pull: Pull) -> None:
        """Its head came again: a sender that did not answer does now, or has forgotten all."""
        if pull.stalls:
            pull.stalls = 0
            pull.heard_s = self._clock()
            pull.again_s = pull.heard_s + self._limits.stall_s
            self._forget_asked(peer, pull)

    def _path(self, peer: str, absent: Absent, suffix: str) -> Path:
        return self._folder / peer / f"{absent.digest}.{absent.chunk_bytes}{suffix}"

    def _end(self, peer: str) -> None:
        if (pull := self._open.pop(peer, None)) is not None:
            self._forget_asked(peer, pull)

    def _forget_asked(self, peer: str, pull: Pull) -> None:
        for index in pull.asked:
            self.pace.cancelled((peer, index))
        pull.asked.clear()
