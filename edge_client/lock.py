"""One process at a time works with a device's store, and is known to the broker by its name."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from fedsparse.errors import ConfigError

LOCK: Final = ".lock"


class StoreInUse(ConfigError):
    """Another process has the store."""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the store in this block; the lock goes with the process, however that ends.

    Raises:
        StoreInUse: an agent works with it, or a doctor looks at it.
        ConfigError: the folder cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / LOCK).open("a")
    except OSError as error:
        raise ConfigError(f"store {root}: cannot be used: {error}") from error
    with lock:
        _take(lock, root)
        yield


@contextmanager
def alone_if_used(root: Path) -> Iterator[None]:
    """As `alone`, but nothing is made: where no agent ever ran, nothing is held.

    A file made by another user than the agent's would keep the agent out.

    Raises:
        StoreInUse: an agent works with it, or another doctor looks at it.
        ConfigError: the lock cannot be read.
    """
    try:
        lock = (root / LOCK).open("r")
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise ConfigError(f"store {root}: cannot be used: {error}") from error
    with lock:
        _take(lock, root)
        yield


def _take(lock: IO[str], root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreInUse(
            f"store {root}: another `edge-client run` (or doctor) works with it; "
            "stop it first, or give each device a `store` of its own"
        ) from error
