"""One thread with an event loop for all links of this process, as long as there are any."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, TypeVar

PATIENCE_S: Final = 10.0
Result = TypeVar("Result")


class LoopThread:
    """The thread; `LoopThread.acquire()` and `release()` start and end it."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _one: ClassVar[LoopThread | None] = None
    _users: ClassVar[int] = 0

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fedsparse links", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls) -> LoopThread:
        """The running thread."""
        with cls._lock:
            cls._one = cls._one or cls()
            cls._users += 1
            return cls._one

    @classmethod
    def release(cls) -> None:
        """One user less; the last one ends it."""
        with cls._lock:
            cls._users -= 1
            if cls._users == 0 and cls._one is not None:
                cls._one._end()
                cls._one = None

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
