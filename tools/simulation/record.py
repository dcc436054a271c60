"""What a simulation leaves behind of each round: one JSON object a line in `rounds.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fedsparse.types import BoolArray
from tools.simulation.consensus import Consensus
from tools.simulation.fleet import Work

BYTES: Final = ("up", "down", "up_mask", "down_mask")


class Recorder:
    """Turns the aggregator's diary into records, as an `aggregator.events.Diary`.

    A round is closed first and scored later; its line is written once it is scored.

    Args:
        path: of the records; they are appended.
        take_work: what clients did since the last call.
        server_mask: of the largest level, at the moment.
        at_record: is told of each record.
    """

    def __init__(
        self,
        path: Path,
        take_work: Callable[[], Work],
        server_mask: Callable[[], BoolArray],
        at_record: Callable[[dict[str, Any]], None],
    ) -> None:
        self._path = path
        self._take_work = take_work
        self._server_mask = server_mask
        self._at_record = at_record
        self._updates: dict[str, dict[str, Any]] = {}
        self._closed: dict[str, Any] | None = None

    @property
    def closed(self) -> dict[str, Any] | None:
        """The round that is closed and not yet scored."""
        return self._closed

    def restore(self, closed: dict[str, Any] | None) -> None:
        """Go on where a round was closed and not yet scored."""
        self._closed = closed

    def write(self, event: str, **fields: Any) -> None:  # noqa: ANN401 (whatever JSON holds)
        """Note an event of the aggregator."""
        if event == "update":
            self._updates[fields["device"]] = fields
        elif event == "round_closed":
            self._closed = self._record(fields)
            self._updates = {}
        elif event == "round_scored" and self._closed is not None:
            scored = {"accuracy": fields["accuracy"], "test_loss": fields["test_loss"]}
            record = {**self._closed, **scored}
            self._closed = None
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._at_record(record)

    def _record(self, fields: dict[str, Any]) -> dict[str, Any]:
        work = self._take_work()
        sizes: dict[str, dict[str, int]] = fields["bytes"]
        sums = {key: sum(one[key] for one in sizes.values()) for key in BYTES}
        return {
            "round": fields["round"],
            "stage": fields["stage"],
            "loss": fields["loss"],
            **{f"{key}_bytes": value for key, value in sums.items()},
            "plan_bytes": sum(one["down_plan"] for one in sizes.values()),
            "clients": [
                {
                    "client": name,
                    "level": update["level"],
                    "examples": update["num_examples"],
                    **{f"{key}_bytes": sizes[name][key] for key in BYTES},
                }
                for name, update in sorted(self._updates.items())
            ],
            "failures": work.failures,
            "multiply_adds": work.multiply_adds,
            "mask_changed": fields["mask_changed"],
            "consensus": _consensus(work.consensus, self._server_mask),
            "train_s": round(work.train_s, 3),
        }


def read_records(
    path: Path, check: Callable[[Any], None] = lambda record: None
) -> list[dict[str, Any]]:
    """All whole lines; the rest of a line that a kill cut short is left out.

    Args:
        path: of the records; where there is none yet, there are none.
        check: raises `ValueError` where a record is not what it should be.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is damaged; the message says which.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
            check(records[-1])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return records


def _consensus(
    found: Consensus | None, server_mask: Callable[[], BoolArray]
) -> dict[str, list[float]] | None:
    if found is None or found.masks < 2:
        return None
    return {
        "clients": [round(value, 5) for value in found.clients()],
        "server": [round(value, 5) for value in found.server(server_mask())],
        "kept": list(found.kept()),
    }
