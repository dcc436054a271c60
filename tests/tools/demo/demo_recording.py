"""A recorded run: four rounds of three devices, with figures that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.demo.state import RunState
from tools.demo.summary import RunFacts, summarise

LEVELS = {"big": 0.2, "middle": 0.1, "small": 0.05}
IDEAL = {"big": 80_400, "middle": 40_400, "small": 20_400}
PEAK_MB = {"big": 44.0, "middle": 40.0, "small": 38.0}


def without_accuracy(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same run of a model whose loss knows no right and wrong."""
    return [event | {"accuracy": {}} if "accuracy" in event else event for event in events]


def recorded_events(rounds: int = 3) -> list[dict[str, Any]]:
    """A sense round, then `rounds` training rounds; masks travel in round 1 only."""
    events: list[dict[str, Any]] = [
        {
            "event": "job_started", "job": "watch-spdst", "method": "spdst", "seed": 7,
            "levels": [0.2, 0.1, 0.05], "num_prunable": 100_000, "num_dense": 100, "rounds": rounds,
        }
    ]  # fmt: skip
    events += [
        {"event": "device_online", "device": device, "board": f"board-{device}"}
        for device in LEVELS
    ]
    for number in range(rounds + 1):
        events += _round(number, "sense" if number == 0 else "train")
    last = {"0.2": 0.85, "0.1": 0.83, "0.05": 0.80}
    events.append(
        {
            "event": "job_done", "accuracy": last,
            "test_loss": {level: 1 - value for level, value in last.items()},
            "evaluated_on": "gateway",
            "onnx": [f"out/model-{level}.onnx" for level in last],
        }
    )  # fmt: skip
    return [{**event, "time_s": float(index)} for index, event in enumerate(events)]


def _round(number: int, stage: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"event": "round_opened", "round": number, "stage": stage, "levels": [0.2, 0.1, 0.05]}
    ]
    devices = list(LEVELS)[:1] if stage == "sense" else list(LEVELS)
    for device in devices:
        events += _work(device, number, stage)
    accuracy = {"0.2": 0.2 * number, "0.1": 0.19 * number, "0.05": 0.17 * number}
    events.append(
        {
            "event": "round_closed", "round": number, "stage": stage, "wall_s": 2.0 + number / 10,
            "training_s": 1.5, "overhead_s": 0.5 + number / 10, "updates": len(devices),
            "cohort": len(devices), "mask_changed": number == 1, "loss": 1.0 / (number + 1),
            "bytes": {device: _bytes(device, number) for device in devices},
        }
    )  # fmt: skip
    scored = accuracy if stage == "train" else {}
    losses = {level: 1 - value for level, value in scored.items()}
    events.append(
        {"event": "round_scored", "round": number, "accuracy": scored, "test_loss": losses}
    )
    return events


def _work(device: str, number: int, stage: str) -> list[dict[str, Any]]:
    return [
        {
            "event": "device_ready", "round": number, "device": device, "board": f"board-{device}",
            "level": LEVELS[device], "engine": "sparse", "reason": f"{device} <fits> & is quick",
            "predicted_peak_mb": 30.0, "memory_budget_mb": 200.0, "predicted_round_s": 1.5,
        },
        {"event": "task_sent", "round": number, "device": device, "level": LEVELS[device]},
        {
            "event": "update", "round": number, "stage": stage, "device": device,
            "level": LEVELS[device], "num_examples": 400, "step_ms": 1.0 + number, "train_s": 1.5,
            "trainer_s": 1.7, "peak_rss_mb": PEAK_MB[device], "agent_rss_mb": 20.0 + number / 10,
            "loss": 0.5,
        },
    ]  # fmt: skip


def _bytes(device: str, number: int) -> dict[str, int]:
    ideal, mask = IDEAL[device], 5_000 if number == 1 else 0
    return {
        "up": ideal + 200, "down": ideal + mask + 400, "up_mask": 0, "down_mask": mask,
        "down_plan": 300 if number == 0 else 0,
        "ideal_up": ideal, "ideal_down": ideal,
    }  # fmt: skip


def write_events(folder: Path, events: list[dict[str, Any]]) -> Path:
    """The events as the aggregator writes them."""
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def facts() -> RunFacts:
    """What the events do not tell."""
    return RunFacts(
        dataset="watch",
        broker="mosquitto",
        deadline_s=3.0,
        wall_s=42.0,
        idle_rss_mb=dict.fromkeys(LEVELS, 21.5),
        profiles={"big": "jetson-orin-nano"},
        notes={"small": "shares the board with a camera program"},
    )


def state_of(events: list[dict[str, Any]]) -> RunState:
    """The state after all events."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def write_run(folder: Path, rounds: int = 3, *, accuracy: bool = True) -> Path:
    """A finished run's events and summary, in `folder`."""
    events = recorded_events(rounds)
    if not accuracy:
        events = without_accuracy(events)
    write_events(folder, events)
    summary = summarise(state_of(events), facts())
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder
