"""One process at a time works with a device's store, and is known to the broker by its name."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

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
        lock = (root / LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"store {root}: cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUse(
                f"store {root}: another `edge-client run` (or doctor) works with it; "
                "stop it first, or give each device a `store` of its own"
            ) from error
        yield
