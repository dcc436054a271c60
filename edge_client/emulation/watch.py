"""The owner's side of `edge_client.emulation.warden`: one for all places of this process.

It is started with the first place and stays until this process ends: the next place costs nothing.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import threading
from contextlib import suppress
from typing import Any, Final

from edge_client.emulation.belongings import Belongings
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.own_module import own_environment, own_module

MODULE: Final = "edge_client.emulation.warden"
PATIENCE_S: Final = 10.0


class Watch:
    """Tells a warden what is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._warden: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._open: dict[str, Belongings] = {}

    def open(self, belongings: Belongings) -> None:
        """A place has these now; to be called again when it gets more."""
        with self._lock:
            if self._owner != os.getpid():  # this process was forked: the places are its parent's
                self._owner, self._warden, self._open = os.getpid(), None, {}
            self._open[belongings.place] = belongings
            if self._warden is None or self._warden.poll() is not None:
                if self._warden is not None:
                    _end(self._warden)
                self._warden = _start()
                for one in self._open.values():
                    self._tell({"open": one.to_document()})
            else:
                self._tell({"open": belongings.to_document()})

    def closed(self, place: str) -> None:
        """A place has nothing any more."""
        with self._lock:
            if self._owner != os.getpid() or self._open.pop(place, None) is None:
                return
            self._tell({"closed": place})

    def end(self) -> None:
        """End the warden; what is open it takes away."""
        with self._lock:
            if self._warden is not None and self._owner == os.getpid():
                _end(self._warden)
                self._warden = None

    @property
    def warden_pid(self) -> int | None:
        """Of the warden, while there is one."""
        return self._warden.pid if self._warden else None

    def _tell(self, document: dict[str, Any]) -> None:
        if self._warden is not None and self._warden.stdin is not None:
            with suppress(OSError):  # one that was killed is replaced at the next opening
                os.write(self._warden.stdin.fileno(), json.dumps(document).encode() + b"\n")


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (our own module)
            own_module(MODULE),
            env=own_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # what ends its owner must not end it
        )
    except OSError as error:
        raise EmulationError(f"the warden of emulated boards does not start: {error}") from error


def _end(warden: subprocess.Popen[bytes]) -> None:
    if warden.stdin:
        with suppress(OSError):
            warden.stdin.close()
    try:
        warden.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        warden.kill()
        warden.wait()


WATCH: Final = Watch()
atexit.register(WATCH.end)
