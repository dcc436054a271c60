"""A large vector a part at a time: every expression of numpy takes memory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

PART: Final = 1 << 15  # values


def parts(size: int) -> Iterator[slice]:
    """A flat vector of `size`, a part at a time."""
    return (slice(start, min(size, start + PART)) for start in range(0, size, PART))
