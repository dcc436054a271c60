"""What is started here dies with this process, even where it is killed and cannot clear up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from edge_client.emulation.belongings import Belongings
from edge_client.emulation.members import MARK
from edge_client.emulation.names import new_name
from edge_client.emulation.watch import WATCH


@contextmanager
def warded() -> Iterator[None]:
    """Broker and aggregator, too, belong to a place: one without limits, that the warden knows.

    Processes find their place by a mark in their environment. Clients get the marks of their own
    places; all else that is started within the block inherits this one.
    """
    belongings = Belongings(place=new_name())
    WATCH.open(belongings)  # the warden starts without the mark: it must not end itself
    before = os.environ.get(MARK)
    os.environ[MARK] = belongings.place
    try:
        yield
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before
        belongings.remove()
        WATCH.closed(belongings.place)
