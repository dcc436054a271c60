"""Updates on their way to the disk: checked one by one, stored a batch at a time.

A batch holds new updates of different devices. It is stored with one wait for the disk; only then
do its devices get their receipts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aggregator.spool import Spool
from aggregator.updates import Asked, read_update
from fedsparse.body import Body
from fedsparse.plan import Plan
from fedsparse.wire.messages import Update

MOST_UPDATES: Final = 64  # of a batch; the first of them waits for its receipt as long
MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An update that was checked, and is to be stored."""

    device: str
    update: Update
    digest: str


class Intake:
    """The batch that is being made up.

    Args:
        plan: the model's layers.
        spool: turned to the open round.
    """

    def __init__(self, plan: Plan, spool: Spool) -> None:
        self._plan = plan
        self._spool = spool
        self._batch: dict[str, Taken] = {}

    def __contains__(self, device: object) -> bool:
        return device in self._batch

    def __bool__(self) -> bool:
        return bool(self._batch)

    @property
    def is_full(self) -> bool:
        """Whether it is to be stored now, whatever else has come."""
        return len(self._batch) >= MOST_UPDATES or self._spool.waiting_bytes >= MOST_BYTES

    def take(self, device: str, update: Update, body: Body, asked: Asked) -> None:
        """Check an update; it is stored with the batch.

        Args:
            device: who sent it; it has none in the batch.
            update, body: what it sent.
            asked: what it was asked for.

        Raises:
            RemoteProtocolError: it is not what the device was asked for.
            OSError: it is in a file that cannot be moved.
        """
        read_update(self._plan, asked, update, body.read())
        self._spool.add(device, update, body)
        self._batch[device] = Taken(device=device, update=update, digest=body.digest)

    def commit(self) -> list[Taken]:
        """Store the batch; what it held.

        Raises:
            OSError: the disk is full or at fault. The batch is gone: its devices have no receipts,
                and send theirs again.
        """
        batch, self._batch = list(self._batch.values()), {}
        self._spool.commit()
        return batch

    def drop(self) -> None:
        """Forget the batch: the round is over or begins anew, nobody was told of it."""
        self._batch = {}
