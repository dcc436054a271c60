"""What a board's link does to its traffic: rates, delay, loss, and times without any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from edge_client.emulation.scale import TimeScale

MOST_LOSS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A time without a link.

    Attributes:
        at_s: when it begins, counted from the opening of the place.
        for_s: how long it lasts.
        every_s: how long after its beginning the next one begins; None = there is only one.
    """

    at_s: float
    for_s: float
    every_s: float | None = None

    def __post_init__(self) -> None:
        if not (self.at_s >= 0 and self.for_s > 0 and math.isfinite(self.at_s)):
            raise ValueError(f"a cut at {self.at_s} s for {self.for_s} s is none")
        if self.every_s is not None and self.every_s <= self.for_s:
            raise ValueError(
                f"cuts of {self.for_s:g} s every {self.every_s:g} s leave no link between them"
            )

    def is_on(self, now_s: float) -> bool:
        """Whether the link is cut at this moment."""
        return 0 <= self._within(now_s) < self.for_s

    def next_change_s(self, now_s: float) -> float | None:
        """When it next begins or ends; None when it is over for good."""
        if now_s < self.at_s:
            return self.at_s
        within = self._within(now_s)
        if within < self.for_s:
            return now_s - within + self.for_s
        return None if self.every_s is None else now_s - within + self.every_s

    def _within(self, now_s: float) -> float:
        """Seconds since its last beginning; below zero before the first."""
        since = now_s - self.at_s
        return since if since < 0 or self.every_s is None else since % self.every_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link in the board's own seconds.

    Attributes:
        up_bytes_per_s, down_bytes_per_s: from and to the board; None = as fast as this host.
        delay_s: each way.
        jitter_s: up to so much more delay, drawn evenly; order is kept.
        loss: share of packets lost, each way.
        cuts: when there is none.
        seed: of loss and jitter.
    """

    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    cuts: tuple[Cut, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for rate in (self.up_bytes_per_s, self.down_bytes_per_s):
            if rate is not None and not (rate >= 1 and math.isfinite(rate)):
                raise ValueError(f"a link's rate is 1 byte per second or more, not {rate}")
        for time_s in (self.delay_s, self.jitter_s):
            if not (time_s >= 0 and math.isfinite(time_s)):
                raise ValueError(f"a delay cannot be {time_s} s")
        if not 0 <= self.loss <= MOST_LOSS:
            raise ValueError(f"loss is a share from 0 to {MOST_LOSS:g}, not {self.loss}")

    def is_cut(self, now_s: float) -> bool:
        """Whether one of the cuts is on."""
        return any(cut.is_on(now_s) for cut in self.cuts)

    def next_change_s(self, now_s: float) -> float | None:
        """When a cut next begins or ends; None where none will."""
        times = [cut.next_change_s(now_s) for cut in self.cuts]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def on_host(self, scale: TimeScale) -> Link:
        """The same link in this host's seconds; packets are lost as often."""
        return replace(
            self,
            up_bytes_per_s=_scaled(self.up_bytes_per_s, scale),
            down_bytes_per_s=_scaled(self.down_bytes_per_s, scale),
            delay_s=scale.host_s(self.delay_s),
            jitter_s=scale.host_s(self.jitter_s),
            cuts=tuple(_scaled_cut(cut, scale) for cut in self.cuts),
        )


def _scaled(rate: float | None, scale: TimeScale) -> float | None:
    return None if rate is None else max(1.0, scale.host_rate(rate))


def _scaled_cut(cut: Cut, scale: TimeScale) -> Cut:
    return Cut(
        at_s=scale.host_s(cut.at_s),
        for_s=scale.host_s(cut.for_s),
        every_s=None if cut.every_s is None else scale.host_s(cut.every_s),
    )
