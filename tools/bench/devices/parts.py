"""The parts of `fedsparse bench devices`."""

from __future__ import annotations

from enum import Enum


class Part(str, Enum):
    """What can be measured alone."""

    BOARDS = "boards"
    SMALL = "small"
    LINK = "link"
    IDLE = "idle"
