"""The update that waits in the store for its receipt: there is one at most."""

from __future__ import annotations

import logging

from edge_client.store import Store
from fedsparse.errors import FedSparseError
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Offer, Update

log = logging.getLogger("edge-client")


class UpdateOutbox:
    """What a trainer made, until the aggregator has it.

    Args:
        store: the device's disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> tuple[Update, memoryview] | None:
        """The update and its values; None where none waits. A damaged one is removed."""
        try:
            message, body = decode_message(self._store.outbox.read_bytes())
        except FileNotFoundError:
            return None
        except FedSparseError as error:
            log.warning("outbox=damaged reason=%r", str(error))
        else:
            if isinstance(message, Update):
                return message, body
        self._store.outbox.unlink()
        return None

    def is_for(self, offer: Offer) -> bool:
        """Whether an update for this round was trained before; one of another job is removed."""
        waiting = self.read()
        if waiting is None:
            return False
        if waiting[0].job == offer.job:
            return waiting[0].round_id == offer.round_id
        self._store.outbox.unlink()
        return False
