"""When a link is cut and when it comes back: by its own cuts, or by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edge_client.emulation.link import Link

RESOLUTION_S: Final = 1e-3  # a timer may ring so much early: it never rings twice for one change


class CutClock:
    """Belongs to one event loop: every method is called there.

    Args:
        link: in this host's seconds; they count from now.
        apply: is told of every change: True = cut.
    """

    def __init__(self, link: Link, apply: Callable[[bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._link = link
        self._apply = apply
        self._by_hand = False
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._follow()

    def change(self, link: Link) -> None:
        """Another link's cuts from now on, counted from the same beginning."""
        self._link = link
        self._follow()

    def by_hand(self, *, cut: bool, for_s: float | None = None) -> None:
        """Cut for a time, or until further notice; or leave it to the link's own cuts again."""
        self._by_hand = cut
        if self._end:
            self._end.cancel()
            self._end = None
        if cut and for_s is not None:
            self._end = self._loop.call_later(for_s, lambda: self.by_hand(cut=False))
        self._follow()

    def close(self) -> None:
        """Nothing changes any more."""
        for timer in (self._timer, self._end):
            if timer:
                timer.cancel()

    def _follow(self) -> None:
        now_s = self._loop.time() - self._began_s
        cut = self._by_hand or self._link.is_cut(now_s)
        if cut != self._is_cut:
            self._is_cut = cut
            self._apply(cut)
        if self._timer:
            self._timer.cancel()
        change_s = self._link.next_change_s(now_s)
        if change_s is not None:
            self._timer = self._loop.call_later(max(RESOLUTION_S, change_s - now_s), self._follow)
