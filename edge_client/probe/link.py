"""What the network gives, from the transfers that training makes anyway; pure but for its file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge_client.kept import kept_document
from fedsparse.durable import write_durably
from fedsparse.errors import DataError
from fedsparse.transport.timing import Transfer

FORMAT: Final = 1
FILE: Final = "link.json"
KEPT: Final = 9  # transfers of a direction; the middle one of them speaks for all
LEAST_BYTES: Final = 32 * 1024  # of less, the way there and back takes most of the time
MOST_PER_S: Final = 1e11  # what no device's network gives
log = logging.getLogger("edge-client")

Rates = tuple[float, ...]  # bytes per second, latest last


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """The rates of recent transfers, each way.

    Attributes:
        up, down: bytes per second of the last transfers that were large enough, latest last.
    """

    up: Rates = ()
    down: Rates = ()

    def __post_init__(self) -> None:
        for rates in (self.up, self.down):
            if len(rates) > KEPT or not all(map(_is_rate, rates)):
                raise ValueError(f"rates must be {KEPT} positive numbers at most, got {rates}")

    @property
    def up_bytes_per_s(self) -> float | None:
        """From the device: the median, which one stalled transfer does not move; None = unknown."""
        return _median(self.up)

    @property
    def down_bytes_per_s(self) -> float | None:
        """To the device, likewise."""
        return _median(self.down)

    @property
    def transfers(self) -> int:
        """How many speak."""
        return len(self.up) + len(self.down)

    def after(self, transfer: Transfer) -> LinkEstimate:
        """The estimate with one more; itself where that one says nothing."""
        if transfer.size_bytes < LEAST_BYTES or not transfer.seconds > 0:
            return self
        rate = transfer.size_bytes / transfer.seconds
        if not _is_rate(rate):
            return self
        if transfer.sent:
            return replace(self, up=_with(self.up, rate))
        return replace(self, down=_with(self.down, rate))

    def to_json(self) -> str:
        """A text for the device's store."""
        return json.dumps({"format": FORMAT, "up": list(self.up), "down": list(self.down)})

    @classmethod
    def from_json(cls, text: str | bytes) -> LinkEstimate:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else.
        """
        with kept_document(text, "no estimate of a link", FORMAT, key="format") as document:
            return cls(up=_rates(document["up"]), down=_rates(document["down"]))


@dataclass(slots=True)
class LinkLog:
    """The estimate in a device's store, kept with every transfer that says something.

    Args:
        path: its file.

    Attributes:
        estimate: what it says now.
    """

    path: Path
    estimate: LinkEstimate = field(init=False)

    def __post_init__(self) -> None:
        self.estimate = read_link(self.path)

    def record(self, transfer: Transfer) -> None:
        """Take a transfer in; that the disk refuses it is no reason to stop."""
        after = self.estimate.after(transfer)
        if after is self.estimate:
            return
        self.estimate = after
        try:
            write_durably(self.path, after.to_json().encode())
        except OSError as error:
            log.warning("link=not_kept reason=%r", str(error))


def read_link(path: Path) -> LinkEstimate:
    """What was kept; nothing is known where there is no file, or a damaged one."""
    try:
        return LinkEstimate.from_json(path.read_bytes())
    except (OSError, DataError):
        return LinkEstimate()


def _median(rates: Rates) -> float | None:
    """As `statistics` has it, whose import takes the agent megabytes."""
    if not rates:
        return None
    ordered, count = sorted(rates), len(rates)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _with(rates: Rates, rate: float) -> Rates:
    return (*rates, rate)[-KEPT:]


def _rates(values: Sequence[float]) -> Rates:
    return tuple(float(value) for value in values)


def _is_rate(value: float) -> bool:
    return math.isfinite(value) and 0 < value <= MOST_PER_S
