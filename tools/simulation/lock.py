"""Locks between processes, which end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsparse.errors import ConfigError


@contextmanager
def alone(path: Path, in_use: str) -> Iterator[None]:
    """Hold the lock file `path`, which is made and stays; processes started meanwhile do not.

    Raises:
        ConfigError: another process holds it; `in_use` says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:  # not inherited by other programs
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(in_use) from error
        yield
