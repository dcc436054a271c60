"""Tasks and updates whose bodies travel apart: what is there already does not come again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_bench import VALUES, Bench

from fedsparse.transport.options import ChannelOptions
from fedsparse.wire.messages import Part, Ready, Task, Update

BODY = bytes(range(256)) * 40
OPTIONS = ChannelOptions(inline_bytes=len(VALUES) - 1, chunk_bytes=1024)
CHUNK = re.compile(r".*/down/dev/chunk/[0-9a-f]{64}/(\d+)")


class Wire:
    """What the broker routes to the device; its payloads can be lost."""

    def __init__(self, bench: Bench) -> None:
        self.chunks: list[int] = []
        self.lose_from = 10**6  # the first chunk that does not get through
        self._route = bench.broker.route
        bench.broker.route = self.route  # type: ignore[method-assign]

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if found := CHUNK.fullmatch(topic):
            if int(found[1]) >= self.lose_from:
                return
            self.chunks.append(int(found[1]))
        self._route(topic, payload, retain=retain)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, OPTIONS)
    yield made
    made.agent.close()


@pytest.fixture
def wire(bench: Bench) -> Wire:
    return Wire(bench)


def large_task(bench: Bench, seconds_left: float = 60.0) -> tuple[Task, bytes]:
    task, _ = bench.task()
    part = Part(name="values", codec="f32", size=len(BODY))
    return replace(task, parts=(part,), seconds_left=seconds_left), BODY


def restart(bench: Bench, seconds_left: float = 50.0) -> None:
    """The device loses its power; then it hears the offer, answers, and is sent its task again."""
    bench.broker.cut(bench.transport)
    bench.start()
    bench.settle()
    bench.inbox.clear()
    bench.say(bench.offer())
    bench.hear(Ready)
    bench.say(*large_task(bench, seconds_left))


def test_a_large_task_comes_and_its_update_goes_in_chunks(bench: Bench, wire: Wire) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.say(*large_task(bench))
    _, values = bench.hear(Update)
    assert values == VALUES
    assert wire.chunks == list(range(10))
    assert bench.store.task_head.with_suffix(".body").read_bytes() == BODY
    assert not list((bench.folder / "spool").rglob("*.*"))


def test_a_task_that_is_there_from_before_a_restart_does_not_come_again(
    bench: Bench, wire: Wire
) -> None:
    bench.trained = "exec sleep 100"
    bench.write_script()
    bench.ready()
    bench.hear(Ready)
    bench.say(*large_task(bench))
    bench.agent._stop_trainer()
    wire.chunks.clear()
    bench.trained = 'cp "$here"/update.* "$here/store/outbox/"'
    bench.write_script()
    restart(bench)
    bench.hear(Update)
    assert wire.chunks == []


def test_of_a_task_that_was_on_its_way_the_rest_comes_after_a_restart(
    bench: Bench, wire: Wire
) -> None:
    wire.lose_from = 6
    bench.ready()
    bench.hear(Ready)
    bench.say(*large_task(bench))
    assert wire.chunks == list(range(6))
    wire.lose_from = 10**6
    wire.chunks.clear()
    restart(bench)
    bench.hear(Update)
    assert wire.chunks == [6, 7, 8, 9]


def test_a_task_that_the_disk_has_damaged_comes_again(bench: Bench, wire: Wire) -> None:
    bench.trained = "exec sleep 100"
    bench.write_script()
    bench.ready()
    bench.hear(Ready)
    bench.say(*large_task(bench))
    bench.agent._stop_trainer()
    body = bench.store.task_head.with_suffix(".body")
    body.write_bytes(BODY[:-1] + b"x")
    wire.chunks.clear()
    bench.trained = 'cp "$here"/update.* "$here/store/outbox/"'
    bench.write_script()
    restart(bench)
    bench.hear(Update)
    assert wire.chunks == list(range(10))
    assert body.read_bytes() == BODY


def test_a_task_that_nobody_waits_for_is_not_asked_for(bench: Bench, wire: Wire) -> None:
    bench.settle()
    bench.say(*large_task(bench))
    assert wire.chunks == []
    assert bench.runs == 0
