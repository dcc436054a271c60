"""The policy file, read again when it changes; a broken edit keeps the last good policy."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_client.budget.policy import Policy
from fedsparse.config import load
from fedsparse.errors import ConfigError

log = logging.getLogger("edge-client")


class PolicyFile:
    """A policy that its owner may edit while the device runs.

    Args:
        path: the file; None allows everything.

    Raises:
        ConfigError: there is no such file, or it is invalid.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = self._state()
        self._policy = load(Policy, path) if path is not None else Policy()

    def current(self) -> Policy:
        """The policy as the file has it now, or as it last was good."""
        state = self._state()
        if self._path is None or state == self._seen:
            return self._policy
        self._seen = state
        try:
            self._policy = load(Policy, self._path)
        except ConfigError as error:
            log.error("policy=invalid kept=yes reason=%r", str(error))
        else:
            log.info("policy=read path=%s", self._path)
        return self._policy

    def _state(self) -> tuple[int, int, int] | None:
        """What changes with the file; None where it is missing."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
