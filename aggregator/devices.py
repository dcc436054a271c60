"""What is known of the devices of a job: their statuses as they come, and their last decisions.

The diary is the record (`events.jsonl`): nothing of this is kept anywhere else, and `read_devices`
builds it anew from there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsparse.errors import ConfigError
from fedsparse.wire.messages import Status


class Statuses:
    """The latest status of each device; a repeated one is no news."""

    def __init__(self) -> None:
        self._latest: dict[str, Status] = {}

    def news(self, status: Status) -> Iterator[tuple[str, dict[str, Any]]]:
        """Entries for the diary: that a device came or went, and what it decided."""
        known = self._latest.get(status.device)
        self._latest[status.device] = status
        if known is None or _who(known) != _who(status):
            yield "device_online" if status.online else "device_offline", {"board": status.board}
        decision = status.decision
        if decision is not None and (known is None or known.decision != decision):
            yield (
                "device_decided",
                {
                    "job": decision.job,
                    "round": decision.round_id,
                    "level": decision.level,
                    "reason": decision.reason,
                },
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One device, as the diary tells of it.

    Attributes:
        online: as far as the aggregator knew when it last wrote.
        job, round_id, level, reason: of its last decision; job is empty where there is none.
    """

    device: str
    board: str = ""
    online: bool = False
    job: str = ""
    round_id: int = 0
    level: float | None = None
    reason: str = ""


def read_devices(path: Path) -> dict[str, DeviceRecord]:
    """The devices of a job, by name, from its `events.jsonl`.

    Raises:
        ConfigError: there is no such file, or it is no diary.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return devices_of(_events(file))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file: start the job first") from error
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the diary of a job: {error!r}") from error


def devices_of(events: Iterable[Mapping[str, Any]]) -> dict[str, DeviceRecord]:
    """Fold the diary into the last that is known of each device."""
    devices: dict[str, DeviceRecord] = {}
    job = ""
    for event in events:
        kind = event["event"]
        if kind == "job_started":
            job = event["job"]
            devices = {
                name: dataclasses.replace(one, online=False) for name, one in devices.items()
            }
        changes = _changes(kind, event, job)
        if changes is not None:
            name = event["device"]
            known = devices.get(name, DeviceRecord(device=name))
            devices[name] = dataclasses.replace(known, **changes)
    return dict(sorted(devices.items()))


def _changes(kind: str, event: Mapping[str, Any], job: str) -> dict[str, Any] | None:
    if kind in ("device_online", "device_offline"):
        board = {"board": event["board"]} if event["board"] else {}
        return {"online": kind == "device_online", **board}
    if kind in ("device_ready", "device_decided"):
        return {
            "job": event.get("job", job),
            "round_id": event["round"],
            "level": event["level"],
            "reason": event["reason"],
        }
    return None


def _events(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        if line.endswith("\n"):  # the last one may still be being written
            yield json.loads(line)


def _who(status: Status) -> Status:
    """What a device is, whatever it decided."""
    return dataclasses.replace(status, decision=None)
