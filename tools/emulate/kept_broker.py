"""The broker of a run: one that dies is started again at the same address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedsparse.errors import FedSparseError
from fedsparse.transport.config import BrokerConfig
from tools.broker import start_broker
from tools.demo.processes import RunFailedError

MOST_RESTARTS: Final = 3


class KeptBroker:
    """Leaving the block stops it.

    Args:
        folder: of its state and log.
    """

    def __init__(self, folder: Path) -> None:
        self.restarts = 0
        self._folder = folder
        self._broker = start_broker(folder)

    def __enter__(self) -> KeptBroker:
        return self

    def __exit__(self, *error: object) -> None:
        self._broker.stop()

    @property
    def name(self) -> str:
        """Of the program."""
        return self._broker.name

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._broker.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._broker.host, self._broker.port

    @property
    def config(self) -> BrokerConfig:
        """How a process of this host finds it."""
        return BrokerConfig(host=self._broker.host, port=self._broker.port)

    def look(self, note: Callable[[str, int], None]) -> None:
        """Start it again where it has ended.

        Args:
            note: is told of each event, with the exit code.

        Raises:
            RunFailedError: it does not start again, or died too often.
        """
        code = self._broker.process.poll()
        if code is None:
            return
        note("broker_ended", code)
        self.restarts += 1
        if self.restarts > MOST_RESTARTS:
            raise RunFailedError(f"the broker died {self.restarts} times; see {self._folder}")
        try:
            host, port = self.address
            self._broker = start_broker(self._folder, host, port, prefer=self._broker.name)
        except FedSparseError as error:
            raise RunFailedError(f"the broker died and does not start again: {error}") from error
        note("broker_started", code)
