"""The diary knows every device, and what it decided last."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job_world import build_world

from aggregator.devices import DeviceRecord, Statuses, devices_of, read_devices
from fedsparse.errors import ConfigError
from fedsparse.wire.messages import LastDecision, Status

DECISION = LastDecision(job="job", round_id=3, level=0.1, reason="it fits")
STATUS = Status(device="pi", online=True, board="a board", session="1")


def news(*statuses: Status) -> list[str]:
    seen = Statuses()
    return [event for status in statuses for event, _ in seen.news(status)]


def test_a_device_that_comes_and_goes_is_news_once() -> None:
    gone = replace(STATUS, online=False)
    assert news(STATUS, STATUS, gone, gone, STATUS) == [
        "device_online",
        "device_offline",
        "device_online",
    ]
    assert news(STATUS, replace(STATUS, session="2")) == ["device_online"] * 2  # it was restarted


def test_a_decision_is_news_where_it_changes_and_is_no_arrival() -> None:
    decided = replace(STATUS, decision=DECISION)
    other = replace(STATUS, decision=replace(DECISION, level=None))
    assert news(STATUS, decided, decided, other) == [
        "device_online",
        "device_decided",
        "device_decided",
    ]
    assert news(decided) == ["device_online", "device_decided"]


def event(kind: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"event": kind, "time_s": 1.0, **fields}


DIARY = [
    event("job_started", job="job", levels=[0.2]),
    event("device_online", device="pi", board="a board"),
    event("device_decided", device="nano", job="before", round=9, level=None, reason="old"),
    event("device_ready", device="pi", round=1, level=0.2, reason="plenty", board="a board"),
    event("round_opened", round=2),
    event("device_ready", device="pi", round=2, level=0.1, reason="less", board="a board"),
    event("device_offline", device="pi", board=""),
]


def test_the_last_of_each_device_counts() -> None:
    found = devices_of(DIARY)
    assert list(found) == ["nano", "pi"]
    assert found["pi"] == DeviceRecord(
        device="pi", board="a board", online=False, job="job", round_id=2, level=0.1, reason="less"
    )
    assert found["nano"].job == "before"


def test_after_a_restart_nobody_is_online_until_it_says_so() -> None:
    again = [*DIARY[:2], DIARY[0]]
    assert devices_of(DIARY[:2])["pi"].online
    assert not devices_of(again)["pi"].online


def test_a_diary_that_is_being_written_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in DIARY) + '{"event": "device_o')
    assert read_devices(path) == devices_of(DIARY)


def test_without_a_diary_there_is_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start the job first"):
        read_devices(tmp_path / "events.jsonl")
    (tmp_path / "events.jsonl").write_text("rubbish\n")
    with pytest.raises(ConfigError, match="not the diary"):
        read_devices(tmp_path / "events.jsonl")


def test_what_the_devices_of_a_job_decided_is_in_its_diary(tmp_path: Path) -> None:
    world = build_world(tmp_path).add_fleet()
    first = world.devices[0]
    later = LastDecision(job="job", round_id=1, level=0.2, reason="as announced")
    world.when(lambda: bool(first.tasks), lambda: first.channel.announce(later))
    world.run()
    (decided,) = world.events("device_decided")
    assert decided["device"] == first.name
    assert decided["reason"] == "as announced"
    assert len([one for one in world.events("device_online") if one["device"] == first.name]) == 1
    found = read_devices(world.job.output / "events.jsonl")
    assert {name: one.level for name, one in found.items()} == {
        device.name: device.answer.level for device in world.devices if device.answer
    }
