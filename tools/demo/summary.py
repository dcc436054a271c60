"""`summary.json`: the figures of a run (README.md explains each)."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any, Final

from fedsparse import __version__
from tools.demo.state import DeviceState, RoundRecord, RunState, Traffic

FLOAT32_BYTES: Final = 4
PACKAGES: Final = ("numpy", "onnxruntime", "paho-mqtt", "cbor2")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the events do not tell.

    Attributes:
        dataset, broker: names.
        deadline_s: of a round.
        wall_s: from the command to the end.
        idle_rss_mb: by device, of the waiting agent.
        profiles, notes: by device.
    """

    dataset: str
    broker: str
    deadline_s: float
    wall_s: float
    idle_rss_mb: dict[str, float] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def summarise(state: RunState, facts: RunFacts) -> dict[str, Any]:
    """The summary of a finished run, ready for JSON."""
    training = state.training_rounds
    return {
        "dataset": facts.dataset,
        "method": state.method,
        "seed": state.seed,
        "accuracy": state.accuracy,
        "test_loss": state.test_loss,
        "evaluated_on": state.evaluated_on,
        "rounds": len(training),
        "device_rounds": sum(one.updates for one in state.rounds),
        "wall_s": round(facts.wall_s, 1),
        "round_s": _median(one.wall_s for one in training),
        "round_overhead_s": _median(one.overhead_s for one in training),
        "deadline_s": facts.deadline_s,
        "dense_parameters": state.num_parameters,
        "prunable_parameters": state.num_prunable,
        "dense_bytes": FLOAT32_BYTES * state.num_parameters,
        "levels": [_level(level, state) for level in state.levels],
        "devices": [_device(device, state, facts) for device in state.devices.values()],
        "rejected_messages": state.rejected,
        "onnx": state.onnx,
        "broker": facts.broker,
        "host": _host(),
        "versions": _versions(),
    }


def quiet_rounds(rounds: Iterable[RoundRecord], device: str, level: str) -> list[Traffic]:
    """A device's traffic in its training rounds at `level` in which values alone travelled."""
    return [
        one.traffic[device]
        for one in rounds
        if one.is_training
        and one.levels.get(device) == level
        and device in one.traffic
        and one.traffic[device].is_quiet
    ]


def _level(level: str, state: RunState) -> dict[str, Any]:
    """What a device sends and receives in a round at one level, median over devices and rounds."""
    quiet = [
        traffic for device in state.devices for traffic in quiet_rounds(state.rounds, device, level)
    ]
    return {"level": float(level), "quiet_rounds": len(quiet), **_bytes(quiet)}


def _device(device: DeviceState, state: RunState, facts: RunFacts) -> dict[str, Any]:
    quiet = quiet_rounds(state.rounds, device.device, device.level)
    every = [one.traffic[device.device] for one in state.rounds if device.device in one.traffic]
    return {
        "id": device.device,
        "profile": facts.profiles.get(device.device, device.board),
        "note": facts.notes.get(device.device, ""),
        "level": float(device.level) if device.level else None,
        "engine": device.engine,
        "why": device.reason,
        "predicted_peak_mb": round(device.predicted_peak_mb, 1),
        "memory_budget_mb": round(device.memory_budget_mb, 1),
        "predicted_round_s": round(device.predicted_round_s, 3),
        "peak_rss_mb": round(device.peak_mb, 1),
        "idle_rss_mb": round(facts.idle_rss_mb.get(device.device, 0.0), 1),
        "step_ms": round(device.step_ms, 3),
        **_bytes(quiet),
        "mask_bytes": sum(one.mask for one in every),
        "total_bytes": sum(one.total for one in every),
        "failures": device.failures,
    }


def _bytes(quiet: list[Traffic]) -> dict[str, Any]:
    return {
        "up_bytes_per_round": _median_bytes(quiet, lambda one: one.up),
        "down_bytes_per_round": _median_bytes(quiet, lambda one: one.down),
        "up_overhead": _ratio(quiet, lambda one: one.up, lambda one: one.ideal_up),
        "down_overhead": _ratio(quiet, lambda one: one.down, lambda one: one.ideal_down),
    }


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return round(median(known), 3) if known else 0.0


def _median_bytes(rounds: list[Traffic], count: Callable[[Traffic], int]) -> int:
    return round(median(map(count, rounds))) if rounds else 0


def _ratio(
    rounds: list[Traffic], count: Callable[[Traffic], int], ideal: Callable[[Traffic], int]
) -> float | None:
    """Median of bytes over the values alone; None where no round tells."""
    ratios = [count(one) / ideal(one) for one in rounds if ideal(one)]
    return round(median(ratios), 4) if ratios else None


def _host() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {"fedsparse": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
