"""Readings of a device's heat and power, for tests that make them up."""

from __future__ import annotations

from edge_client.probe.heat import HeatReading
from edge_client.probe.power import PowerReading


def heat(
    celsius: float | None = None, *, throttled: bool | None = None, reasons: tuple[str, ...] = ()
) -> HeatReading:
    """What a sensor says; nothing by default."""
    return HeatReading(
        celsius=celsius,
        zone=None if celsius is None else "cpu",
        throttled=throttled,
        reasons=reasons,
        zones=(),
        unknown=(),
    )


def power(source: str | None = None, percent: int | None = None) -> PowerReading:
    """What the supplies say; nothing by default."""
    return PowerReading(source=source, battery_percent=percent, unknown=())
