"""The parts of `fedsparse bench transport`."""

from __future__ import annotations

from enum import Enum


class Part(str, Enum):
    """What can be measured alone."""

    ROUND_BYTES = "round-bytes"
    SLOW_LINK = "slow-link"
    LARGE_MODEL = "large-model"
    LOAD = "load"
    FUZZ = "fuzz"
    FAULTS = "faults"
