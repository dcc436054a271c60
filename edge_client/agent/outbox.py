"""The update that waits in the store for its receipt: there is one at most."""

from __future__ import annotations

import logging

from edge_client.store import Store
from fedsparse.body import Body, File
from fedsparse.errors import FedSparseError, RemoteProtocolError
from fedsparse.stored import load_message
from fedsparse.wire.messages import Offer, Update

log = logging.getLogger("edge-client")


class UpdateOutbox:
    """What a trainer made, until the aggregator has it.

    Args:
        store: the device's disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._verified = ""  # the digest of the body that was found to be whole

    def read(self) -> tuple[Update, Body] | None:
        """The update and its values; None where none waits. A damaged one is removed."""
        try:
            return self._load()
        except FileNotFoundError:
            return None
        except FedSparseError as error:
            log.warning("outbox=damaged reason=%r", str(error))
        self._store.clear_outbox()
        return None

    def is_for(self, offer: Offer) -> bool:
        """Whether an update for this round is there; one of another job or run is removed."""
        waiting = self.read()
        if waiting is None:
            return False
        if (waiting[0].job, waiting[0].run) == (offer.job, offer.run):
            return waiting[0].round_id == offer.round_id
        self._store.clear_outbox()
        return False

    def _load(self) -> tuple[Update, Body]:
        message, body = load_message(self._store.outbox)
        if not isinstance(message, Update):
            raise RemoteProtocolError(f"a {type(message).__name__} in place of an update")
        if body.digest != self._verified:
            if isinstance(body, File) and not body.verify():
                raise RemoteProtocolError("the values are not those that the update names")
            self._verified = body.digest
        return message, body
