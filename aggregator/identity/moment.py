"""Times: certificates have dates in UTC, the store has milliseconds since 1970."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> datetime:
    """The time by this host's clock; whoever can be given the time is given it."""
    return datetime.now(timezone.utc)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def from_ms(moment_ms: int) -> datetime:
    """A date in UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, timezone.utc)
