"""What emulation raises; the message says what to do."""

from __future__ import annotations

from fedsparse.errors import FedSparseError


class EmulationError(FedSparseError):
    """A board's limits cannot be set, or what set them has gone."""
