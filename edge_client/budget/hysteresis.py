"""A level that does not flap: down at once, up only with room to spare, for some offers in a row.

Values in, values out. What a device remembers between two offers is a `Hold`. A declined offer is
no level: whoever sat out a round comes back as soon as anything fits, at the smallest level.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from edge_client.kept import kept_document

VERSION: Final = 1
MAX_BROKEN: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Whether one level fits now.

    Attributes:
        spare: whether it would fit with less memory and less time, too.
    """

    level: float
    fits: bool
    spare: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is remembered of the offers before.

    Attributes:
        subject: what the levels are levels of; what is known of another subject does not count.
        level: the largest that is taken without further ado.
        rising: a larger one, that had room to spare in each of the last `offers`; 0 where none had.
        round_id: of the last offer: one that is repeated changes nothing here.
        broken: how the last task broke the promise that its level made; empty where it kept it.
    """

    subject: str
    level: float
    rising: float = 0.0
    offers: int = 0
    round_id: int = -1
    broken: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.level <= 1 or not 0 <= self.rising <= 1 or self.offers < 0:
            raise ValueError(f"no level is held at {self.level}, rising to {self.rising}")

    def to_json(self) -> str:
        """A text for the device's store."""
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Hold:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else; begin afresh.
        """
        with kept_document(text, "not a held level, begin afresh", VERSION) as document:
            return cls(
                subject=str(document["subject"]),
                level=float(document["level"]),
                rising=float(document["rising"]),
                offers=int(document["offers"]),
                round_id=int(document["round_id"]),
                broken=str(document["broken"])[:MAX_BROKEN],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The level of an offer, None to decline, and what is to be remembered (None: nothing)."""

    level: float | None
    hold: Hold | None


def settle(
    rooms: Sequence[Room], hold: Hold | None, *, subject: str, round_id: int, raise_after: int
) -> Settled:
    """The level to take: what fits, but no higher than before without room and patience.

    Args:
        rooms: of the levels on offer, largest first.
        hold: what the last offer left; None at the beginning.
        subject: what the levels are levels of.
        round_id: of the offer.
        raise_after: offers in a row with room to spare before a higher level is taken.
    """
    fitting = [room.level for room in rooms if room.fits]
    if hold is None or hold.subject != subject:
        if not fitting:
            return Settled(level=None, hold=None)
        fresh = Hold(subject=subject, level=fitting[0], round_id=round_id)
        return Settled(level=fitting[0], hold=fresh)
    # An offer that is repeated leaves less time: that says nothing of the next round.
    again = round_id == hold.round_id
    if not fitting:
        lowest = min(hold.level, rooms[-1].level)
        return Settled(level=None, hold=hold if again else _stay(hold, lowest, round_id))
    # Where none that fits is as small, the smallest that does: a level must fit before all else.
    level = next((one for one in fitting if one <= hold.level), fitting[-1])
    if again:
        return Settled(level=level, hold=hold)
    spare = [room.level for room in rooms if room.spare and room.fits and room.level > level]
    if not spare or level < hold.level:
        return Settled(level=level, hold=_stay(hold, level, round_id))
    offers = hold.offers + 1
    rising = min(spare[0], hold.rising or 1.0)
    higher = [one for one in spare if one <= rising]
    if not higher:  # what had room before is not on offer any more, or has none now
        rising, offers = spare[0], 1
    elif offers >= raise_after:
        return Settled(level=higher[0], hold=_stay(hold, higher[0], round_id))
    waiting = replace(hold, level=level, rising=rising, offers=offers, round_id=round_id)
    return Settled(level=level, hold=waiting)


def step_down(hold: Hold, failed: float, levels: Sequence[float], broken: str) -> Hold:
    """A task at the level `failed` did not end as foretold: hold the next smaller one.

    Args:
        hold: what is remembered.
        failed: the level of the task.
        levels: those on offer.
        broken: what happened, for the next reason.
    """
    smaller = max((level for level in levels if level < failed), default=min(hold.level, failed))
    level = min(hold.level, smaller)
    return replace(hold, level=level, rising=0.0, offers=0, broken=broken[:MAX_BROKEN])


def kept_promise(hold: Hold) -> Hold:
    """A task ended as foretold: what was broken before is mended."""
    return replace(hold, broken="")


def _stay(hold: Hold, level: float, round_id: int) -> Hold:
    return replace(hold, level=level, rising=0.0, offers=0, round_id=round_id)
