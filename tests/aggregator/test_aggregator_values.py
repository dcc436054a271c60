"""Jobs whose values travel rounded: what is sent, what becomes of it, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_world import (
    LEVELS,
    Killed,
    World,
    build_world,
    content_of,
    crash_points_at_the_disk,
    kill,
)

from aggregator.job import JobConfig, MethodConfig, ValuesConfig
from edge_client.trainer.work import Residual
from fedsparse.config import load
from fedsparse.errors import ConfigError
from fedsparse.wire.codecs import F16, F32, I8
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Stage, Task, Update, Verdict

CODECS = (F32, F16, I8)
ROUND = 2


def world_with(
    tmp_path: Path, label: str, name: str = "pdst", levels: tuple[float, ...] = LEVELS,
    **values: object,
) -> World:  # fmt: skip
    method = MethodConfig(
        name=name, levels=levels, sense_epochs=1, sense_devices=1, r_int=2, rotate_levels=False
    )
    return build_world(
        tmp_path,
        label,
        method=method,
        rounds=3,
        values=ValuesConfig(**{"up": F32, "down": F32, "error_feedback": True, **values}),  # type: ignore[arg-type]
    )


def prunable(world: World) -> np.ndarray:
    return world.checkpoint().state.weights.prunable


@pytest.mark.parametrize("name", ["spdst", "nst", "jmwst"])
@pytest.mark.parametrize(("up", "down"), [*itertools.product(CODECS, CODECS)])
def test_a_job_of_every_codec_and_method_gets_to_its_end(
    tmp_path: Path, name: str, up: str, down: str
) -> None:
    world = world_with(tmp_path, "world", name, up=up, down=down).add_fleet()
    world.run()
    for device in world.devices:
        assert {receipt.verdict for receipt in device.receipts} == {Verdict.ACCEPTED}
        for task in device.tasks:
            assert task.values_codec == up
            assert task.error_feedback == (up == I8)
            (values,) = [part for part in task.parts if part.name == "values"]
            # A last round scores the very model.
            assert values.codec == (F32 if task.stage is Stage.EVALUATE else down)
    rejected = [event["reason"] for event in world.events("rejected")]
    assert rejected == []


@pytest.mark.parametrize("name", ["spdst", "jmwst", "ssfl"])
def test_an_offer_says_how_values_will_travel(tmp_path: Path, name: str) -> None:
    world = world_with(tmp_path, "world", name, up=I8, down=F16).add_fleet()
    sent: dict[int, str] = {}

    def look(update: Update, body: bytes) -> tuple[Update, bytes]:
        codecs = [part.codec for part in update.parts if part.name == "values"]
        sent[update.round_id] = codecs[0] if codecs else ""
        return update, body

    for device in world.devices:
        device.change = dict.fromkeys(range(5), look)
    world.run()
    for device in world.devices:
        for task in device.tasks:
            (values,) = [part for part in task.parts if part.name == "values"]
            offer = device.offers[task.round_id]
            assert (offer.down_codec, offer.up_codec) == (values.codec, sent[task.round_id])
    assert set(sent) >= {0, 1, 2, 3}


def test_saliency_is_sent_exactly_whatever_the_codec(tmp_path: Path) -> None:
    world = world_with(tmp_path, "world", "ssfl", up=I8, down=I8).add_fleet()
    answers: list[tuple[str, int]] = []

    def look(update: Update, body: bytes) -> tuple[Update, bytes]:
        answers.append((update.parts[0].codec, len(body)))
        return update, body

    for device in world.devices:
        device.change = {0: look}
    world.run()
    assert answers == [(F32, 4 * world.plan.num_prunable)]
    assert next(event["updates"] for event in world.events("round_closed")) == 1


def test_fewer_bits_are_fewer_bytes_and_nearly_the_same_model(tmp_path: Path) -> None:
    worlds = {codec: world_with(tmp_path, codec, up=codec, down=codec).add_fleet()
              for codec in CODECS}  # fmt: skip
    for world in worlds.values():
        for device in world.devices:
            device.stride = 0.1
        world.run()
    exact = prunable(worlds[F32])
    moved = np.abs(exact).max()
    for codec, allowed in ((F16, 1e-4), (I8, 2e-2)):
        error = np.abs(prunable(worlds[codec]) - exact).max() / moved
        assert 0 < error < allowed
    kept = sum(world.plan.kept(level) for level in (0.2, 0.2, 0.1, 0.1, 0.05))
    scales = 5 * 4 * len(world.plan.prunable)
    for name in ("ideal_up", "ideal_down"):
        sent = {
            codec: sum(entry[name] for entry in world.events("round_closed")[1]["bytes"].values())
            for codec, world in worlds.items()
        }
        assert sent[F32] - sent[F16] == 2 * kept
        assert sent[F16] - sent[I8] == kept - scales


@pytest.mark.parametrize("up", CODECS)
def test_what_is_lost_on_the_way_down_does_not_stay_in_the_model(tmp_path: Path, up: str) -> None:
    """Devices that change nothing leave the model as it was, to the bit."""
    world = world_with(tmp_path, "world", up=up, down=I8).add_fleet()
    for device in world.devices:
        device.stride = 0.0
    before: list[np.ndarray] = []
    world.when(lambda: bool(world.devices[0].tasks), lambda: before.append(prunable(world)))
    world.run()
    assert np.array_equal(before[0], prunable(world))
    first = world.devices[0]
    weights = [
        bytes(split_parts(task.parts, body)["values"][1])
        for task, body in zip(first.tasks, first.bodies, strict=True)
    ]
    assert len(set(weights[:3])) == 3  # each round draws anew, so that nothing is lost for good


def test_values_that_are_sent_to_all_of_a_level_are_the_same(tmp_path: Path) -> None:
    world = world_with(tmp_path, "world", up=I8, down=I8).add_fleet()
    world.run()
    first, second = world.devices[:2]
    for one, other in zip(first.bodies[1:3], second.bodies[1:3], strict=True):
        assert one == other


@pytest.mark.parametrize("error_feedback", [False, True])
def test_devices_keep_what_was_lost_of_updates_that_were_accepted(
    tmp_path: Path, error_feedback: bool
) -> None:
    world = world_with(tmp_path, "world", up=I8, error_feedback=error_feedback).add_fleet()
    device, kept = world.devices[0], list[Residual | None]()

    def break_it(update: Update, body: bytes) -> tuple[Update, bytes]:
        kept.append(device.residual)
        return replace(update, level=0.05), body

    def look(update: Update, body: bytes) -> tuple[Update, bytes]:
        kept.append(device.residual)
        return update, body

    device.change = {1: look, 2: break_it, 3: look}
    world.run()
    assert [r.verdict for r in device.receipts][:3] == [
        Verdict.ACCEPTED, Verdict.REJECTED, Verdict.ACCEPTED,
    ]  # fmt: skip
    assert kept[0] is None
    assert (kept[1] is not None) == error_feedback
    assert kept[2] is kept[1]
    assert (device.residual is not kept[2]) == error_feedback


# Restarts


@pytest.mark.parametrize("name", ["spdst", "nst"])
def test_a_kill_at_any_point_does_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def world_of_two(label: str) -> World:
        world = world_with(tmp_path, label, name, LEVELS[:2], up=I8, down=I8, error_feedback=False)
        world.add("big", 0.2, num_examples=3)
        world.add("small", 0.1, num_examples=11)
        return world

    calm = world_of_two("calm")
    with crash_points_at_the_disk(calm, monkeypatch):
        calm.run()
    for point in range(1, calm.crash_points + 1, 3):
        world = world_of_two(f"killed-{point}")
        world.crash_at = point
        with crash_points_at_the_disk(world, monkeypatch):
            with pytest.raises(Killed):
                world.run()
            world.run()
        assert content_of(world) == content_of(calm), point


def test_a_restart_in_mid_round_gives_the_same_model_with_error_feedback(tmp_path: Path) -> None:
    calm = world_with(tmp_path, "calm", up=I8, down=I8).add_fleet()
    calm.run()
    world = world_with(tmp_path, "killed", up=I8, down=I8).add_fleet()
    world.devices[3].silent_in = {ROUND}

    def has_receipt() -> bool:
        return any(receipt.round_id == ROUND for receipt in world.devices[0].receipts)

    world.when(has_receipt, kill)
    with pytest.raises(Killed):
        world.run()
    late = world.devices[3]
    late.silent_in = set()
    late.kill()
    late.begin()
    world.run()
    assert content_of(world) == content_of(calm)
    late_tasks = [task for task in late.tasks if task.round_id == ROUND]
    assert len(late_tasks) == 2


# What is refused


def another_base(update: Update, body: bytes) -> tuple[Update, bytes]:
    (part,) = update.parts
    return replace(update, parts=(replace(part, base=hashlib.sha256(b"").hexdigest()),)), body


def step_out_of_range(update: Update, body: bytes) -> tuple[Update, bytes]:
    scales = 4 * 3
    return update, body[:scales] + b"\x80" + body[scales + 1 :]


def scale_that_is_no_number(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(np.nan).tobytes() + body[4:]


def enormous_scale(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(1e30).tobytes() + body[4:]


def too_short(update: Update, body: bytes) -> tuple[Update, bytes]:
    (part,) = update.parts
    return replace(update, parts=(replace(part, size=len(body) - 1),)), body[:-1]


def another_codec_of_that_length(update: Update, body: bytes) -> tuple[Update, bytes]:
    (part,) = update.parts
    return replace(update, parts=(replace(part, codec=F16),)), body


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_base, "a change of the values e3b0c44298fc; its task's were "),
        (step_out_of_range, "a step of -128"),
        (scale_that_is_no_number, "a scale is not between"),
        (enormous_scale, "diverged"),
        (too_short, "bytes for 499 kept and"),
        (another_codec_of_that_length, "dense as 'f16'"),
    ],
)
def test_a_bad_change_is_refused_with_its_reason(
    tmp_path: Path, change: object, reason: str
) -> None:
    world = world_with(tmp_path, "world", up=I8).add_fleet()
    device = world.devices[0]
    device.change = {ROUND: change}  # type: ignore[dict-item]
    world.run()
    assert device.receipts[1].verdict is Verdict.REJECTED
    assert reason in device.receipts[1].reason
    assert [event["updates"] for event in world.events("round_closed")] == [5, 4, 5, 5]


def test_values_of_another_codec_than_was_asked_for_still_count(tmp_path: Path) -> None:
    """They say themselves how they are to be read: a job may be resumed with other codecs."""
    world = world_with(tmp_path, "world", up=I8).add_fleet()
    device = world.devices[0]
    make_update, sent = device.make_update, set[tuple[str, str]]()

    def exactly(task: Task, body: bytes) -> tuple[Update, bytes]:
        update, content = make_update(replace(task, values_codec=F32), body)
        sent.update((task.values_codec, part.codec) for part in update.parts)
        return update, content

    device.make_update = exactly  # type: ignore[method-assign]
    world.run()
    assert sent == {(I8, F32)}
    assert {receipt.verdict for receipt in device.receipts} == {Verdict.ACCEPTED}


# job.toml


def test_the_codecs_of_a_job_are_read_from_its_file(tmp_path: Path) -> None:
    text = 'name = "n"\nsite = "s"\nplan = "p"\noutput = "o"\nrounds = 1\n'
    path = tmp_path / "job.toml"
    path.write_text(text)
    assert load(JobConfig, path).values == ValuesConfig(up=I8, down=F16, error_feedback=False)
    path.write_text(text + '[values]\nup = "f16"\ndown = "f32"\nerror_feedback = true\n')
    assert load(JobConfig, path).values == ValuesConfig(up=F16, down=F32, error_feedback=True)
    path.write_text(text + '[values]\ndown = "i4"\n')
    with pytest.raises(ConfigError, match="down must be one of f32, f16, i8, got 'i4'"):
        load(JobConfig, path)
    path.write_text(text + "[values]\nerror_fedback = false\n")
    with pytest.raises(ConfigError, match="error_feedback"):
        load(JobConfig, path)
