"""The owner's side of `edge_client.emulation.pacer`: starts it, and again should it be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Final

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.members import marked, send
from edge_client.emulation.own_module import own_environment, own_module

MODULE: Final = "edge_client.emulation.pacer"
TOO_SOON_S: Final = 1.0
PATIENCE_S: Final = 5.0
START_S: Final = 30.0  # of an interpreter on a machine that has much else to do


class DutyCycle:
    """A pacer for the processes of one place.

    Should it die, the processes are continued at once and another takes over; should this process
    die, the pacer continues them; should both, the warden ends them (`warden.py`).
    """

    def __init__(self, place: str, share: float) -> None:
        self.throttled_s = 0.0
        self.used_s = 0.0
        self._place = place
        self._share = share
        self._watched: set[int] = set()
        self._before = (0.0, 0.0)  # of pacers that died
        self._closed = False
        self._runs = threading.Event()
        self._lock = threading.Lock()
        self._process = self._start()
        self._guard = threading.Thread(target=self._listen, name=f"{place} pacer", daemon=True)
        self._guard.start()
        if not self._runs.wait(START_S):
            self.close()
            raise EmulationError(f"the pacer of a duty cycle did not start in {START_S:g} s")

    @property
    def pid(self) -> int:
        """Of the pacer."""
        return self._process.pid

    def change(self, share: float) -> None:
        """Another share from now on."""
        self._share = share
        self._tell(f"share {share}")

    def watch(self, pid: int) -> None:
        """A process has just started in the place."""
        self._watched.add(pid)
        self._tell(f"watch {pid}")

    def close(self) -> None:
        """End the pacer; nothing is left stopped."""
        self._closed = True
        process = self._process
        if process.stdin:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        self._guard.join(PATIENCE_S)
        send(marked(self._place), signal.SIGCONT)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 (our own module)
                own_module(MODULE, self._place, str(self._share)),
                env=own_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # an interrupt at the terminal is for its owner
            )
        except OSError as error:
            raise EmulationError(f"the pacer of a duty cycle does not start: {error}") from error

    def _listen(self) -> None:
        while True:
            process, began = self._process, time.monotonic()
            if process.stdout:
                for line in process.stdout:
                    self._heard(line)
                process.stdout.close()
            process.wait()
            if process.stdin:
                with suppress(OSError):
                    process.stdin.close()
            if self._closed:
                return
            send(marked(self._place), signal.SIGCONT)
            if time.monotonic() - began < TOO_SOON_S:
                time.sleep(TOO_SOON_S)
            self._before = (self.throttled_s, self.used_s)
            self._process = self._start()
            for pid in self._watched:
                self._tell(f"watch {pid}")

    def _heard(self, line: bytes) -> None:
        throttled_s, used_s = map(float, line.split())
        self.throttled_s = self._before[0] + throttled_s
        self.used_s = self._before[1] + used_s
        self._runs.set()

    def _tell(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is None or self._closed:
            return
        with self._lock, suppress(OSError):  # a pacer that has died is told when it is replaced
            os.write(stdin.fileno(), line.encode() + b"\n")
