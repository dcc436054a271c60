"""What a bad link costs: bytes through it against the bytes that had to be sent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tools.bench.devices.cases import DEVICE
from tools.bench.devices.rows import Event, read_events

MOST_RATIO: Final = 1.15
PAYLOAD: Final = ("ideal_up", "ideal_down", "up_mask", "down_mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResult:
    """Rounds through a bad link.

    Attributes:
        rounds: that were closed with an update; `wanted` of so many.
        offline: how often the device was seen to go.
        payload_bytes: what the rounds had to move: values and masks, both ways, each once.
        sent_bytes: into the link both ways, whatever it was; of a proxy without headers, of a
            network namespace with them.
        mechanism: what the link is.
        wall_s: of this host.
        error: what broke the run off, or empty.
    """

    rounds: int
    wanted: int
    offline: int
    payload_bytes: int
    sent_bytes: int
    mechanism: str
    wall_s: float
    error: str = ""

    @property
    def ratio(self) -> float:
        """Bytes sent over payload."""
        return self.sent_bytes / self.payload_bytes if self.payload_bytes else math.inf

    @property
    def holds(self) -> bool:
        """Whether all rounds were done, with few bytes more than it takes."""
        return not self.error and self.rounds == self.wanted and self.ratio <= MOST_RATIO

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


def read_link(folder: Path, wanted: int, *, error: str = "") -> LinkResult:
    """What the run in a folder sent (docs/emulate.md).

    Args:
        folder: of the run.
        wanted: rounds.
        error: what broke the run off, or empty.
    """
    events = read_events(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    device = next(one for one in summary["emulation"]["devices"] if one["id"] == DEVICE)
    closed = [one for one in events if one["event"] == "round_closed"]
    usage = device["usage"]
    return LinkResult(
        rounds=sum(one["updates"] > 0 for one in closed),
        wanted=wanted,
        offline=sum(one["event"] == "device_offline" for one in events),
        payload_bytes=_payload(closed),
        sent_bytes=usage["up_bytes"] + usage["down_bytes"],
        mechanism=device["limits"]["link"]["mechanism"],
        wall_s=summary["wall_s"],
        error=error,
    )


def _payload(closed: Sequence[Event]) -> int:
    """Every round moves as much; in the smallest one nothing was sent again."""
    entries = [entry for one in closed for entry in one["bytes"].values()]
    return len(entries) * sum(min((entry[key] for entry in entries), default=0) for key in PAYLOAD)
