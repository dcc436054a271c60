"""Updates that come together are stored together, and only then have their receipts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from job_world import LEVELS, GatewayTransport, World, build_world, content_of

from aggregator.job import CohortConfig, MethodConfig
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Receipt, Update


def world_of(tmp_path: Path, label: str, devices: int = 40, **cohort: Any) -> World:  # noqa: ANN401
    world = build_world(
        tmp_path,
        label,
        rounds=2,
        method=MethodConfig(name="pdst", levels=LEVELS[:2]),
        cohort=CohortConfig(gather_s=1.0, deadline_s=10.0, offline_grace_s=1.0, **cohort),
    )
    for index in range(devices):
        world.add(f"device-{index:02}", 0.2 if index % 2 else 0.1, num_examples=3 + index)
    return world


class Ledger:
    """In which order things happened: waits for the disk, and receipts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.story: list[str] = []
        publish, wait = GatewayTransport.publish, os.fdatasync

        def told(transport: GatewayTransport, topic: str, payload: bytes, **kind: bool) -> int:
            if payload and isinstance(decode_message(payload)[0], Receipt):
                self.story.append("receipt")
            return publish(transport, topic, payload, **kind)

        def waited(descriptor: int) -> None:
            wait(descriptor)
            self.story.append("stored")

        monkeypatch.setattr(GatewayTransport, "publish", told)
        monkeypatch.setattr(os, "fdatasync", waited)


def test_forty_updates_cost_one_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, ledger = world_of(tmp_path, "world"), Ledger(monkeypatch)
    world.run()
    assert ledger.story == (["stored"] + ["receipt"] * 40) * 3


@pytest.mark.parametrize("most", [1, 7])
def test_a_batch_has_an_end_and_its_size_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    calm = world_of(tmp_path, "calm")
    calm.run()
    monkeypatch.setattr("aggregator.intake.MOST_UPDATES", most)
    world, ledger = world_of(tmp_path, "world"), Ledger(monkeypatch)
    world.run()
    assert ledger.story[: most + 1] == ["stored"] + ["receipt"] * most
    assert content_of(world) == content_of(calm)


def test_a_batch_ends_where_it_grows_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.intake.MOST_BYTES", 1)
    world, ledger = world_of(tmp_path, "world", devices=5), Ledger(monkeypatch)
    world.run()
    assert ledger.story[:20] == ["stored", "receipt"] * 10  # the last round's have no bodies


def test_all_of_the_batch_that_reaches_the_quorum_count(tmp_path: Path) -> None:
    world = world_of(tmp_path, "world", quorum=0.5)
    world.run()
    closed = world.events("round_closed")
    assert [event["updates"] for event in closed] == [40, 40, 40]


def test_a_message_that_came_twice_within_a_batch_is_stored_once(tmp_path: Path) -> None:
    calm = world_of(tmp_path, "calm", devices=6)
    calm.run()
    world = world_of(tmp_path, "world", devices=6)
    world.broker.duplicates = True
    world.run()
    assert content_of(world) == content_of(calm)
    assert [event["updates"] for event in world.events("round_closed")] == [6, 6, 6]
    assert len(world.events("update")) == 18


def test_the_broker_keeps_updates_until_they_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are acknowledged a batch at a time, as they are stored."""
    world = world_of(tmp_path, "world", devices=12)
    unacknowledged: list[int] = []

    def look(descriptor: int) -> None:
        (session,) = (one for name, one in world.broker._sessions.items() if name == "gateway")
        assert session.client is not None
        held = [one.payload for one in session.client.unacknowledged]
        unacknowledged.append(sum(isinstance(decode_message(one)[0], Update) for one in held))

    monkeypatch.setattr(os, "fdatasync", look)
    world.run()
    assert unacknowledged == [12, 12, 12]
