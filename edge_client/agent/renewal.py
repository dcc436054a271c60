"""Renewing the device's certificate in time, in a process that ends.

The agent only looks at dates: it has no room for the cryptography. The connection that it has goes
on with the old certificate, which stays good; the next one is made with the new.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge_client.agent.trust import enrolled
from edge_client.config import ClientConfig
from fedsparse.transport.validity import read_validities

log = logging.getLogger("edge-client")

SHARE_LEFT: Final = 1 / 3  # of a certificate's life
LOOK_S: Final = (0.5 * 3600, 6 * 3600)  # drawn between: a fleet that came in together must not
# renew in one second, nor knock in step where the service is away
COMMAND: Final = (sys.executable, "-m", "edge_client.cli", "renew")

Start = Callable[[Sequence[str]], "subprocess.Popen[bytes]"]


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 (our own command)


class Renewal:
    """Looks now and then whether the certificate is to be renewed.

    Args:
        path: of `client.toml`.
        config: what it says.
        clock: of time that only passes, in seconds.
        wall: what the system's clock says, in seconds since 1970.
        rng: draws the pauses.
        start: starts a process.
    """

    def __init__(
        self,
        path: Path,
        config: ClientConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        start: Start = _start,
    ) -> None:
        self._command = (*COMMAND, str(path))
        self._folder = enrolled(config)
        self._clock, self._wall, self._start = clock, wall, start
        self._rng = rng or random.Random()  # noqa: S311 (no secret)
        self._process: subprocess.Popen[bytes] | None = None
        self._next_s = clock()

    def tick(self) -> None:
        """Start the process if it is time; say how it ended."""
        if self._process is not None:
            self._watch(self._process)
        elif self._folder is not None and self._clock() >= self._next_s:
            self._next_s = self._clock() + self._rng.uniform(*LOOK_S)
            if self._is_due(self._folder.device):
                self._begin()

    def _begin(self) -> None:
        log.info("certificate=due; renewing it")
        try:
            self._process = self._start(self._command)
        except OSError as error:  # no memory for another process: at the next look
            log.warning("renewed=no reason=%r", str(error))

    def close(self) -> None:
        """End the process: the old certificate stays, and it is tried again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code is None:
            return
        self._process = None
        if code:
            log.warning("renewed=no exit=%d; `edge-client renew` says why", code)
        else:
            log.info("renewed=yes")

    def _is_due(self, certificate: Path) -> bool:
        try:
            dates = read_validities(certificate.read_text(encoding="ascii"))[0]
        except (OSError, ValueError) as error:
            log.warning("certificate=%s unreadable=%r", certificate, str(error))
            return False
        return dates.share_left(self._wall()) <= SHARE_LEFT


def known_moment_s(config: ClientConfig) -> float:
    """A moment that has passed for certain, in seconds since 1970; 0 where none is known."""
    folder = enrolled(config)
    return folder.read_home().now_ms / 1000 if folder is not None else 0.0
