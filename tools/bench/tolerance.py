"""How near a prediction of memory or time must be to what is measured."""

from __future__ import annotations

import math
from typing import Final

MEMORY_SHARE: Final = 0.15  # a prediction may be off by this share, or by MEMORY_SLACK_MB
MEMORY_SLACK_MB: Final = 1.0
MEMORY_BELOW: Final = 0.03  # and below by this share at most: a device must not run out of memory
TIME_SHARE: Final = 0.25
HOLDS: Final = "memory within 15 % or 1 MB, not more than 3 % below; time within 25 %"


def error(predicted: float, measured: float) -> float:
    """How far a prediction is above what was measured, as a share of that."""
    if measured:
        return predicted / measured - 1
    return math.inf if predicted else 0.0


def memory_holds(predicted_mb: float, measured_mb: float) -> bool:
    """Whether a prediction of memory (1e6 bytes) is as near as it must be."""
    near = abs(predicted_mb - measured_mb) <= max(MEMORY_SHARE * measured_mb, MEMORY_SLACK_MB)
    return near and error(predicted_mb, measured_mb) >= -MEMORY_BELOW


def time_holds(predicted: float, measured: float) -> bool:
    """Whether a prediction of time is as near as it must be."""
    return abs(error(predicted, measured)) <= TIME_SHARE


def percent_off(share: float, *, holds: bool) -> str:
    """For a table: an error, marked where it is too large."""
    return f"{100 * share:+.0f}%{'' if holds else '!'}"
