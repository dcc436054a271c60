"""One device in a run: its place, its store, its client, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.place import Place
from edge_client.emulation.report import Report
from tools.emulate.devices import Device
from tools.emulate.small_disk import SmallDisk


@dataclass(slots=True, kw_only=True)
class Actor:
    """One device in the run.

    Attributes:
        device: what it is.
        place: its limits; None while there is none.
        disk: the file system of its store; None = this host's.
        disk_text: what holds its store, or why nothing does.
        is_full: whether nothing is to be left in it.
        wanted: whether its client is to run.
        started_s: when its client last started, on the journal's clock.
        again_s: when its client is to start again.
        crashes, limits_lost: how often its client ended by itself, and its groups went.
        memory_kills: of its place, as the journal has them.
        closed: the places that it had.
    """

    device: Device
    place: Place | None = None
    disk: SmallDisk | None = None
    disk_text: str = "this host's, without a bound of its own"
    wanted: bool = False
    started_s: float = 0.0
    again_s: float | None = None
    crashes: int = 0
    limits_lost: int = 0
    memory_kills: int = 0
    is_full: bool = False
    closed: list[Place] = field(default_factory=list)

    @property
    def name(self) -> str:
        """In the fleet."""
        return self.device.name

    @property
    def open_place(self) -> Place:
        """Its place.

        Raises:
            EmulationError: there is none at the moment.
        """
        if self.place is None:
            raise EmulationError(f"{self.name} has no place")
        return self.place

    def report(self) -> Report | None:
        """How it is, or was last, limited."""
        place = self.place or (self.closed[-1] if self.closed else None)
        return place.report() if place else None

    def usage(self) -> dict[str, Any]:
        """What it used in all places that it had; None is unknown."""
        places = [*self.closed, *([self.place] if self.place else [])]
        usages = [place.usage().to_document() for place in places]
        if not usages:
            return {}
        together: dict[str, Any] = {}
        for key in usages[0]:
            known = [usage[key] for usage in usages if usage[key] is not None]
            whole = max if key == "peak_memory_bytes" else sum
            together[key] = whole(known) if known else None
        return together
