"""Times for people."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

DAY_S: Final = 86_400


def moment(seconds: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def days(seconds: float) -> str:
    """A span, in days; in hours where it is less than two."""
    if seconds < 2 * DAY_S:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / DAY_S:.0f} days"
