"""A run as its files tell of it, made up: for the timeline, with any number of devices."""

from __future__ import annotations

import random
from typing import Any

LEVELS = (0.2, 0.1, 0.05)
BOARDS = ("raspberry-pi-zero-2w", "raspberry-pi-4b-2gb", "raspberry-pi-5-8gb")
Event = dict[str, Any]


def recorded_run(devices: int, rounds: int = 6) -> tuple[dict[str, Any], list[Event]]:
    """Summary and events of a run in which this and that happens."""
    names = [f"board-{number:02}" for number in range(1, devices + 1)]
    return summary_of(names, rounds), list(_sorted(_events(names, rounds)))


def summary_of(names: list[str], rounds: int, scale: float = 2.0) -> dict[str, Any]:
    devices = [
        {
            "id": name,
            "group": "board",
            "board": BOARDS[number % len(BOARDS)],
            "figures": {
                "memory_bytes": {"value": 348 * 2**20, "basis": "estimated"},
                "multiply_adds_per_s": {"value": 5e8, "basis": "estimated"},
                "up_bytes_per_s": {"value": 4e5, "basis": "fleet.toml"},
                "down_bytes_per_s": {"value": None, "basis": "unknown"},
            },
            "limits": {
                "memory": {"mechanism": "cgroup v1", "approximate": False, "parameters": {}},
                "cpu": {
                    "mechanism": "duty cycle", "approximate": True, "parameters": {"share": 0.05},
                },
                "link": {"mechanism": "proxy", "approximate": True, "parameters": {}},
            },
            "store": "this host's",
        }
        for number, name in enumerate(names)
    ]  # fmt: skip
    emulation = {
        "finished": True,
        "ended_because": "",
        "fleet": "made-up",
        "scenario": "weather",
        "seed": 1,
        "time_scale": scale,
        "time_scale_why": "2, as the fleet file says",
        "devices": devices,
        "did_not_happen": [],
    }
    return {"rounds": rounds, "wall_s": 100.0, "emulation": emulation}


def _sorted(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda one: float(one["time_s"]))


def _events(names: list[str], rounds: int) -> list[Event]:
    rng = random.Random(7)
    events: list[Event] = [event("job_started", 0.5, levels=list(LEVELS))]
    for name in names:
        events.append(event("client_started", 0.0, device=name))
        online_s = 1 + 4 * rng.random()
        events.append(event("device_online", online_s, device=name))
        level = LEVELS[hash_of(name) % 3]
        events.append(event("device_ready", online_s + 2, device=name, level=level))
    now_s = 9.0
    for number in range(rounds):
        stage = "sense" if number == 0 else "train"
        events.append(event("round_opened", now_s, round=number, stage=stage))
        lasts_s = max(_tasks(events, names, number, now_s, rng))
        sizes = {name: {"up": 30_000 + number, "down": 60_000} for name in names}
        now_s += lasts_s + 0.5
        events.append(event("round_closed", now_s, round=number, stage=stage, bytes=sizes))
    return events


def _tasks(
    events: list[Event], names: list[str], number: int, now_s: float, rng: random.Random
) -> list[float]:
    lasts = [1.0]
    for name in names:
        level = LEVELS[(hash_of(name) + number) % 3]
        common = {"device": name, "round": number}
        events.append(event("task_sent", now_s + 0.2, level=level, **common))
        takes_s = 2 + 8 * level + 4 * rng.random()
        fate = rng.random()
        if fate < 0.06:
            at_s = now_s + takes_s / 2
            events.append(event("happened", at_s, device=name, kind="reboot"))
            events.append(event("device_offline", at_s, device=name))
            events.append(event("device_online", at_s + 3, device=name))
        elif fate < 0.12:
            events.append(event("happened", now_s + 1, device=name, kind="cut"))
            events.append(event("over", now_s + 5, device=name, kind="cut"))
        elif fate < 0.16:
            events.append(event("happened", now_s + 1, device=name, kind="hot", factor=0.5))
            events.append(event("over", now_s + 7, device=name, kind="hot", factor=1.0))
        if fate >= 0.12:
            events.append(event("update", now_s + takes_s, train_s=takes_s / 2, **common))
            lasts.append(takes_s)
    return lasts


def event(name: str, time_s: float, **fields: object) -> Event:
    return {"event": name, "time_s": time_s, **fields}


def hash_of(name: str) -> int:
    return sum(map(ord, name))
