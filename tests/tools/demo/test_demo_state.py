"""The state that events add up to, and the summary's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from demo_recording import IDEAL, facts, recorded_events, state_of, write_events

from fedsparse.errors import DataError
from tools.demo.events import EventTail
from tools.demo.state import Activity, RunState
from tools.demo.summary import quiet_rounds, summarise

REQUIRED = {
    "accuracy", "dense_parameters", "devices", "rounds", "round_overhead_s", "wall_s", "onnx",
}  # fmt: skip
REQUIRED_OF_A_DEVICE = {
    "id", "profile", "level", "engine", "peak_rss_mb", "idle_rss_mb", "step_ms",
    "up_bytes_per_round", "down_bytes_per_round",
}  # fmt: skip


def test_a_device_goes_from_waiting_to_training_and_back() -> None:
    events = recorded_events()
    seen = []
    state = RunState()
    for event in events:
        state.apply(event)
        if event.get("device") == "small":
            seen.append(state.devices["small"].activity)
    assert seen[:4] == [Activity.IDLE, Activity.IDLE, Activity.TRAINING, Activity.IDLE]


@pytest.mark.parametrize(
    ("event", "activity"),
    [
        ({"event": "device_offline", "device": "big", "board": ""}, Activity.OFFLINE),
        ({"event": "device_failed", "device": "big", "round": 1, "reason": "no memory"},
         Activity.FAILED),
    ],
)  # fmt: skip
def test_an_incident_shows_in_the_device(event: dict[str, Any], activity: Activity) -> None:
    state = state_of([*recorded_events()[:-1], event])
    assert state.devices["big"].activity is activity


def test_a_device_that_declines_has_no_level() -> None:
    ready = next(event for event in recorded_events() if event["event"] == "device_ready")
    state = state_of([{**ready, "level": None, "reason": "declined: too small"}])
    device = state.devices[ready["device"]]
    assert (device.activity, device.level) == (Activity.DECLINED, "")


def test_a_round_waits_until_its_first_task_is_sent() -> None:
    events = recorded_events()
    waiting = {
        "event": "round_waiting", "round": 0, "stage": "sense", "ready": 1, "needed": 2,
        "not_ready": {"small": "declined: too small"}, "way_out": "lower sense_devices",
    }  # fmt: skip
    sent = next(index for index, event in enumerate(events) if event["event"] == "task_sent")
    waits = [*events[:sent], waiting]
    text = "round 0 waits: 1 of 2 devices are ready; lower sense_devices"
    assert state_of(waits).waiting == text
    assert state_of([*waits, events[sent]]).waiting == ""
    opened = next(event for event in events if event["event"] == "round_opened")
    assert state_of([*waits, opened]).waiting == ""  # by a gateway that was started again
    assert state_of([*waits[:-1], {**waiting, "way_out": ""}]).waiting == text.split(";")[0]


def test_unknown_events_are_ignored() -> None:
    assert state_of([{"event": "weather", "time_s": 1.0}]).devices == {}


def test_levels_are_spelled_alike_whatever_the_aggregator_writes() -> None:
    done = {
        "event": "job_done", "accuracy": {"1.0": 0.9}, "test_loss": {"1.0": 0.2},
        "evaluated_on": "gateway", "onnx": [],
    }  # fmt: skip
    assert state_of([done]).accuracy == {"1": 0.9}
    assert state_of([done]).test_loss == {"1": 0.2}


def test_the_summary_has_the_promised_keys() -> None:
    summary = summarise(state_of(recorded_events()), facts())
    assert summary.keys() >= REQUIRED
    for device in summary["devices"]:
        assert device.keys() >= REQUIRED_OF_A_DEVICE
    json.dumps(summary, allow_nan=False)


def test_the_summary_adds_up() -> None:
    summary = summarise(state_of(recorded_events()), facts())
    assert summary["accuracy"] == {"0.2": 0.85, "0.1": 0.83, "0.05": 0.80}
    assert (summary["dense_parameters"], summary["dense_bytes"]) == (100_100, 400_400)
    assert summary["rounds"] == 3  # the sense round does not count
    assert summary["round_overhead_s"] == pytest.approx(0.7)  # of 0.6, 0.7, 0.8
    assert summary["wall_s"] == 42.0


def test_a_device_is_summed_up_over_its_quiet_rounds() -> None:
    summary = summarise(state_of(recorded_events()), facts())
    small = next(one for one in summary["devices"] if one["id"] == "small")
    assert small["up_bytes_per_round"] == IDEAL["small"] + 200
    assert small["down_bytes_per_round"] == IDEAL["small"] + 400  # without the mask of round 1
    assert small["down_overhead"] == pytest.approx(1 + 400 / IDEAL["small"], abs=1e-4)
    assert small["mask_bytes"] == 5_000
    assert small["peak_rss_mb"] == pytest.approx(38.0 + 20.3)
    assert small["step_ms"] == 3.0  # of 2, 3, 4
    assert small["level"] == 0.05
    assert small["note"] == "shares the board with a camera program"


@pytest.mark.parametrize("travelled", ["down_mask", "down_plan"])
def test_a_round_in_which_more_than_values_travelled_is_not_quiet(travelled: str) -> None:
    events = recorded_events()
    closed = [event for event in events if event["event"] == "round_closed"]
    closed[-1]["bytes"]["big"][travelled] = 10  # to a latecomer
    state = state_of(events)
    assert len(quiet_rounds(state.rounds, "big", "0.2")) == 1
    assert len(quiet_rounds(state.rounds, "small", "0.05")) == 2


def test_bytes_count_for_the_level_that_was_trained() -> None:
    events = recorded_events()
    for event in events:
        if event.get("device") == "big" and event["event"] == "task_sent" and event["round"] == 3:
            event["level"] = 0.05  # its turn at a lower level
    summary = summarise(state_of(events), facts())
    big = next(one for one in summary["devices"] if one["id"] == "big")
    assert big["level"] == 0.2
    counts = {one["level"]: one["quiet_rounds"] for one in summary["levels"]}
    assert counts == {0.2: 1, 0.1: 2, 0.05: 3}


def test_a_run_without_quiet_rounds_is_summed_up_all_the_same() -> None:
    summary = summarise(state_of(recorded_events(rounds=1)), facts())
    assert [one["up_bytes_per_round"] for one in summary["devices"]] == [0, 0, 0]
    assert [one["up_overhead"] for one in summary["devices"]] == [None, None, None]


def test_the_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert list(tail.read()) == []
    path.write_text('{"event":"a"}\n{"event":', encoding="utf-8")
    assert [event["event"] for event in tail.read()] == ["a"]
    with path.open("a", encoding="utf-8") as file:
        file.write('"b"}\n')
    assert [event["event"] for event in tail.read()] == ["b"]
    assert list(tail.read()) == []


def test_the_tail_reads_what_was_written(tmp_path: Path) -> None:
    events = recorded_events()
    assert list(EventTail(write_events(tmp_path, events)).read()) == events


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"time_s": 1}'])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f'{{"event":"a"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        list(EventTail(path).read())
