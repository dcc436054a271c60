"""`python -m edge_client.emulation.warden`: clears up after a process that dies.

Its owner has places open. Each line on its standard input tells of one, as JSON: `{"open": {...}}`
or `{"closed": name}`. When the input ends, or the owner has gone, what is still open is taken
away. So a SIGTERM or a SIGKILL of the owner leaves nothing behind; should the warden be killed,
too, the next start of an emulation on this machine clears up.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Final

from edge_client.emulation.belongings import Belongings

LOOK_EVERY_S: Final = 1.0


def main() -> None:
    """Read until the end, then take away what is open."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its owner, never before
    places: dict[str, Belongings] = {}
    text = b""
    while os.getppid() == parent:
        if not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
            continue
        more = os.read(sys.stdin.fileno(), 65536)
        if not more:
            break
        *lines, text = (text + more).split(b"\n")
        for line in lines:
            _note(places, line)
    for belongings in places.values():
        belongings.remove()


def _note(places: dict[str, Belongings], line: bytes) -> None:
    document = json.loads(line)
    if "open" in document:
        belongings = Belongings.from_document(document["open"])
        places[belongings.place] = belongings
    else:
        places.pop(document["closed"], None)


if __name__ == "__main__":
    main()
