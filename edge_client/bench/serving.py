"""The worker's side of a measurement: commands come as lines of JSON, answers go the same way."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final, Protocol

from edge_client.memory import peak_rss_bytes

WARM_UP_STEPS: Final = 1  # of a block: what ran in between has taken the caches


class Trained(Protocol):
    """What a worker trains."""

    def step(self, number: int) -> None:
        """The training step number `number`."""
        ...

    def change_mask(self) -> None:
        """Go on under another mask with the same counts."""
        ...

    def facts(self) -> dict[str, Any]:
        """What is known of it once it is built."""
        ...


def serve(trained: Trained) -> None:
    """Say what was built, then answer commands until there are no more.

    `{"steps": n}` gives the seconds of each of n steps, `{"peak": true}` the highest resident
    memory of this process so far, `{"mask": true}` the seconds of a change of the mask.
    """
    _say(trained.facts())
    number = 0
    for line in sys.stdin:
        command = json.loads(line)
        if "steps" in command:
            count = int(command["steps"]) + WARM_UP_STEPS
            times = [_timed(trained, number + i) for i in range(count)]
            number += count
            _say({"seconds": times[WARM_UP_STEPS:]})
        elif "peak" in command:
            _say({"bytes": peak_rss_bytes()})
        else:
            start = time.perf_counter()
            trained.change_mask()
            _say({"seconds": time.perf_counter() - start})


def _timed(trained: Trained, number: int) -> float:
    start = time.perf_counter()
    trained.step(number)
    return time.perf_counter() - start


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
