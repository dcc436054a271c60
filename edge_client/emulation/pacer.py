"""`python -m edge_client.emulation.pacer PLACE SHARE`: stops and continues processes.

For machines where the kernel gives no quota. It works like one: processes earn `SHARE` seconds of
processor time a second, run while they have any, and are stopped until they have earned a slice.
What they used is read from the kernel, so waking late costs no accuracy. Idle processes are left
alone.

Lines on its standard input change the share (`share 0.25`) or name a process that has just started
(`watch 1234`); on its standard output it says, as it goes, seconds stopped and seconds used. When
the input ends, or it is asked to end, everything goes on running.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Final

from edge_client.emulation.members import cpu_s, marked, send, with_children

SLICE_S: Final = 0.004  # as long as a tick of most kernels, by which quotas are held to
SOONEST_S: Final = 0.0005
LATEST_S: Final = 0.02
RESCAN_S: Final = 0.5  # for what has lost its parent
SAY_EVERY_S: Final = 0.05


class Account:
    """What processes have earned and used.

    Attributes:
        share: seconds of processor time that are earned in a second.
        credit_s: what may be used now; below zero, it was too much.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.credit_s = 0.0

    def book(self, elapsed_s: float, used_s: float) -> None:
        """Time went by. No more than a slice is saved up."""
        self.credit_s = min(SLICE_S, self.credit_s + elapsed_s * self.share - used_s)

    @property
    def may_start(self) -> bool:
        """Whether stopped processes have a slice."""
        return self.credit_s >= min(SLICE_S, LATEST_S * self.share) * 0.999

    @property
    def must_stop(self) -> bool:
        """Whether running processes have used theirs up."""
        return self.credit_s <= 0


class Pacer:
    """The processes of a place, running or stopped."""

    def __init__(self, place: str, share: float) -> None:
        self.account = Account(share)
        self.throttled_s = 0.0
        self.used_s = 0.0
        self._place = place
        self._members = marked(place)
        self._seen_s: dict[int, float] = {}
        self._used()  # what they used before is not for this pacer to collect
        self._stopped = False
        self._rescanned = -RESCAN_S
        self._now = time.monotonic()

    def watch(self, pid: int) -> None:
        """Take in a process that has just started."""
        self._members.add(pid)

    def turn(self) -> float:
        """Book what was used, then stop or continue; returns seconds until the next turn."""
        now = time.monotonic()
        elapsed_s, self._now = now - self._now, now
        self._look(now)
        used_s = self._used()
        self.used_s += used_s
        self.account.book(elapsed_s, used_s)
        if self._stopped:
            self.throttled_s += elapsed_s
            if self.account.may_start:
                self.go_on()
        elif self.account.must_stop and used_s > 0:
            self._stop()
        return self._pause_s()

    def go_on(self) -> None:
        """Continue everything."""
        self._stopped = False
        send(marked(self._place) | with_children(self._members), signal.SIGCONT)

    def _look(self, now: float) -> None:
        if now - self._rescanned >= RESCAN_S:
            self._members |= marked(self._place)
            self._rescanned = now
        self._members = with_children(self._members)

    def _used(self) -> float:
        readings = {pid: cpu_s(pid) for pid in self._members}
        known = {pid: seconds for pid, seconds in readings.items() if seconds is not None}
        used_s = sum(seconds - self._seen_s.get(pid, 0.0) for pid, seconds in known.items())
        self._seen_s = known
        return max(0.0, used_s)

    def _stop(self) -> None:
        """All of them: one that was being started while its parent was stopped, too."""
        self._stopped = True
        stopped: set[int] = set()
        while fresh := with_children(self._members) - stopped:
            send(fresh, signal.SIGSTOP)
            stopped |= fresh
            self._members |= fresh

    def _pause_s(self) -> float:
        if self._stopped:
            needed_s = min(SLICE_S, LATEST_S * self.account.share) - self.account.credit_s
            return min(LATEST_S, max(SOONEST_S, needed_s / self.account.share))
        return min(LATEST_S, max(SOONEST_S, self.account.credit_s / self._processors()))

    def _processors(self) -> int:
        """How many the processes may run on at once: so fast they may use up what they have."""
        for pid in self._members:
            with suppress(OSError):  # it has just ended
                return len(os.sched_getaffinity(pid))
        return 1


def main(place: str, share: float) -> None:
    """Hold a place until the standard input ends or the process that started this has gone."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, _end)
    pacer = Pacer(place, share)
    said = 0.0
    text = b""
    os.set_blocking(sys.stdin.fileno(), False)
    try:
        while os.getppid() == parent:
            pause_s = pacer.turn()
            said = _say(pacer, said)
            if not select.select([sys.stdin], [], [], pause_s)[0]:
                continue
            more = os.read(sys.stdin.fileno(), 4096)
            if not more:
                return
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                _obey(pacer, line.decode())
    finally:
        pacer.go_on()


def _obey(pacer: Pacer, line: str) -> None:
    word, _, value = line.partition(" ")
    if word == "share":
        pacer.account.share = float(value)
    elif word == "watch":
        pacer.watch(int(value))


def _say(pacer: Pacer, said: float) -> float:
    now = time.monotonic()
    if now - said < SAY_EVERY_S:
        return said
    sys.stdout.write(f"{pacer.throttled_s:.6f} {pacer.used_s:.6f}\n")
    sys.stdout.flush()
    return now


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
