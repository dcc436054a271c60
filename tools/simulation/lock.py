"""Locks between processes, which end with the process that holds them, however it ends.

A lock is a file, which is made and stays. Processes that are started meanwhile do not inherit it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedsparse.errors import ConfigError


@contextmanager
def alone(path: Path, in_use: str) -> Iterator[None]:
    """Hold the lock, or give up at once.

    Raises:
        ConfigError: another process holds it; `in_use` says what to do.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ConfigError(in_use) from error
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock, once nobody else does."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, how)
        yield
