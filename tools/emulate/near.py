"""Which known name somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

MOST: Final = 12


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest one, or all that there are."""
    names = list(dict.fromkeys(known))
    if found := difflib.get_close_matches(name, names, n=1):
        return f"; did you mean '{found[0]}'?"
    more = ", ..." if len(names) > MOST else ""
    return f"; there are {', '.join(names[:MOST])}{more}"
