"""How warm a device is, and what feeds it: what cannot be read is None, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatReading:
    """The temperature of the processor, and whether it is held back for it.

    Attributes:
        celsius: None is unknown.
        zone: the sensor.
        throttled: None is unknown.
        reasons: why it is throttled, as the system says it.
    """

    celsius: float | None = None
    zone: str = ""
    throttled: bool | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """What the device draws its power from.

    Attributes:
        source: `mains` or `battery`; None is unknown.
        battery_percent: None where there is no battery, or none that tells.
    """

    source: str | None = None
    battery_percent: float | None = None
