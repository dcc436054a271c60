"""A job whose tasks and updates all travel in chunks."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from job_world import (
    LEVELS,
    Killed,
    World,
    build_world,
    content_of,
    crash_points_at_the_disk,
)

from aggregator.job import MethodConfig
from fedsparse.body import Bytes
from fedsparse.transport import channel
from fedsparse.transport.options import ChannelOptions
from fedsparse.wire.messages import Update, Verdict
from fedsparse.wire.topics import Branch


def small_world(folder: Path, label: object) -> World:
    method = MethodConfig(name="spdst", levels=LEVELS[:2], sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(folder, label, method=method, rounds=2)
    world.add("big", 0.2, num_examples=3)
    world.add("small", 0.1, num_examples=11)
    return world


def in_chunks(patch: pytest.MonkeyPatch) -> None:
    """From now on every end sends any body in chunks of 100 bytes."""
    options = functools.partial(ChannelOptions, inline_bytes=1, chunk_bytes=100)
    patch.setattr(channel, "ChannelOptions", options)


def routed(world: World, word: str) -> list[str]:
    """The topics with this word that the broker has routed, from now on."""
    found: list[str] = []
    route = world.broker.route

    def listen(topic: str, payload: bytes, *, retain: bool) -> None:
        if word in topic:
            found.append(topic)
        route(topic, payload, retain=retain)

    world.broker.route = listen  # type: ignore[method-assign]
    return found


def test_a_job_in_chunks_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_world(tmp_path, "whole")
    whole.run()
    in_chunks(monkeypatch)
    cut = small_world(tmp_path, "cut")
    chunks = routed(cut, "/chunk/")
    cut.run()
    assert len(chunks) > 50
    assert len(set(chunks)) == len(chunks)  # nothing is sent twice
    assert content_of(cut) == content_of(whole)
    assert not list(cut.folder.rglob("*.part"))


def test_a_kill_at_any_point_of_a_job_in_chunks_does_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chunks(monkeypatch)
    calm = small_world(tmp_path, "calm")
    with crash_points_at_the_disk(calm, monkeypatch):
        calm.run()
    assert calm.crash_points > 100
    for point in range(1, calm.crash_points + 1, 13):
        world = small_world(tmp_path, f"killed-{point}")
        world.crash_at = point
        with crash_points_at_the_disk(world, monkeypatch):
            with pytest.raises(Killed):
                world.run()
            world.run()
        assert content_of(world) == content_of(calm), point
        assert not any(device.trained_again for device in world.devices), point


def test_an_update_that_is_there_already_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt was lost: the device announces its update once more."""
    in_chunks(monkeypatch)
    world = small_world(tmp_path, "world")
    device = world.devices[0]
    chunks = routed(world, f"/{Branch.UP.value}/big/chunk/")
    kept: list[tuple[Update, bytes]] = []

    def keep(update: Update, body: bytes) -> tuple[Update, bytes]:
        kept.append((update, body))
        return update, body

    def announce_again() -> None:
        device.channel.send(None, kept[0][0], Bytes(kept[0][1]))

    device.change[1] = keep
    world.devices[1].silent_in = {1}
    world.when(lambda: any(one.round_id == 1 for one in device.receipts), announce_again)
    world.run()
    of_first = [one for one in device.receipts if one.round_id == 1]
    assert [one.verdict for one in of_first] == [Verdict.ACCEPTED] * 2
    assert chunks
    assert len(set(chunks)) == len(chunks)
