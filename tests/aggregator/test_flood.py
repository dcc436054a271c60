"""One device floods the gateway: the others' rounds take their usual time, and no disk fills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from job_world import SITE, World, build_world, content_of, method

from aggregator.bounded_diary import AT_ONCE
from fedsparse.transport.limiter import TOLD_AT_ONCE
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Failure, Need, Ready, Stage, Status, Update
from fedsparse.wire.topics import Branch, Topics

TOPICS = Topics(SITE)
FLOODER = "flooder"
UP = TOPICS.message(Branch.UP, FLOODER)
TICKS, A_TICK = 200, 200


def readies(tick: int) -> tuple[str, bytes]:
    ready = Ready(job="job", round_id=1 + tick % 3, attempt=0, level=None, reason="x" * 300)
    return UP, encode_message(ready)


def failures(tick: int) -> tuple[str, bytes]:
    return UP, encode_message(Failure(job="job", round_id=1, reason="y" * 300))


def statuses(tick: int) -> tuple[str, bytes]:
    status = Status(device=FLOODER, online=True, session=str(tick), board=str(tick))
    return TOPICS.status(FLOODER), encode_message(status)


def needs(tick: int) -> tuple[str, bytes]:
    return UP, encode_message(Need(what="mask", job="job", round_id=1))


def rubbish(tick: int) -> tuple[str, bytes]:
    return UP, b"rubbish" * tick


def other_jobs(tick: int) -> tuple[str, bytes]:
    return UP, encode_message(Failure(job=f"job-{tick}", round_id=1, reason="z"))


def updates(tick: int) -> tuple[str, bytes]:
    update = Update(
        job="job", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=1 + tick,
        mask_digest="0" * 64, parts=(),
    )  # fmt: skip
    return UP, encode_message(update)


def small_fleet(tmp_path: Path, label: str) -> World:
    return build_world(tmp_path, label, method=method("spdst"), rounds=3).add_fleet()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[float]]:
    world = small_fleet(tmp_path_factory.mktemp("calm"), "calm")
    world.run()
    return content_of(world), closing_times(world)


def closing_times(world: World) -> list[float]:
    return [one["time_s"] for one in world.events("round_closed")]


@pytest.mark.parametrize("say", [readies, failures, statuses, needs, rubbish, other_jobs, updates])
def test_whatever_it_says_the_rounds_go_on_as_usual_and_few_lines_tell_of_it(
    tmp_path: Path,
    calm: tuple[bytes, list[float]],
    caplog: pytest.LogCaptureFixture,
    say: Callable[[int], tuple[str, bytes]],
) -> None:
    world = small_fleet(tmp_path, "flooded")

    def flood(tick: int) -> None:
        for index in range(A_TICK):
            world.broker.route(*say(tick * A_TICK + index), retain=False)

    for tick in range(1, TICKS):
        world.at_tick[tick] = lambda tick=tick: flood(tick)  # type: ignore[misc]
    world.run()
    content, times = calm
    assert content_of(world) == content
    assert closing_times(world) == pytest.approx(times, abs=2.0)
    about = [one for kind in ("rejected", "device_ready", "device_failed", "device_online")
             for one in world.events(kind) if one["device"] == FLOODER]  # fmt: skip
    assert len(about) <= AT_ONCE + 2 * TOLD_AT_ONCE + 10
    assert sum("flooder" in record.getMessage() for record in caplog.records) < 100
