"""What came of broken frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

MOST_GROWTH_MB: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzResult:
    """MB are 1e6 bytes.

    Attributes:
        target: `decoder`, or `rounds`: both state machines behind both channels.
        seed: the frames follow from it.
        frames: that were mutated and taken.
        refused: of these, by the contract.
        reached: that came through to a state machine, mutated as they were.
        rounds: that were closed nonetheless.
        unexpected: what was raised that should not, with the block whose seed makes it again.
        most_kept: the most entries that all containers of both ends held together.
        growth_mb: of this process after the first tenth.
        wall_s: how long it took.
    """

    target: str
    seed: int
    frames: int
    refused: int
    reached: int = 0
    rounds: int = 0
    unexpected: tuple[str, ...] = ()
    most_kept: int = 0
    growth_mb: float = 0.0
    wall_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing was raised and nothing grew."""
        return not self.unexpected and self.growth_mb <= MOST_GROWTH_MB

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}
