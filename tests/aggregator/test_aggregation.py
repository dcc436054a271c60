"""How updates become one: the trimmed mean from the spool, and changes of bounded length."""

from __future__ import annotations

import re
import tracemalloc
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_world import (
    LEVELS,
    Killed,
    World,
    build_world,
    content_of,
    crash_points_at_the_disk,
)

from aggregator.aggregation import AggregateConfig, Member, Shrinkage
from aggregator.job import JobConfig, MethodConfig, ValuesConfig
from aggregator.pieces import MasksOnDisk
from aggregator.trimming import TrimmedMean
from aggregator.updates import Asked, Contribution
from fedsparse.config import load
from fedsparse.errors import ConfigError
from fedsparse.methods.clipping import change_norm
from fedsparse.methods.state import ServerState
from fedsparse.methods.trimmed_mean import Client, trimmed_mean
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import mask_digest
from fedsparse.sparsity.values import encode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import F16, F32, I8
from fedsparse.wire.messages import Part, Stage, Update

TRIM = 0.25


def world_with(
    tmp_path: Path,
    label: str,
    name: str = "pdst",
    values: tuple[str, str] = (F32, F32),
    **changes: Any,  # noqa: ANN401
) -> World:
    method = MethodConfig(name=name, levels=LEVELS, sense_epochs=1, sense_devices=2, r_int=1)
    up, down = values
    world = build_world(
        tmp_path, label, method=method, rounds=2, values=ValuesConfig(up=up, down=down), **changes
    )
    return world.add_fleet()


def whole(client: Client) -> tuple[BoolArray, Float32Array]:
    """All blocks of a client, of an odd size."""
    blocks = list(client.blocks(24))
    return np.concatenate([one[0] for one in blocks]), np.concatenate([one[1] for one in blocks])


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("values", [(F32, F32), (F16, F32), (I8, F16)])
@pytest.mark.parametrize("name", ["pdst", "nst", "jmwst", "ssfl"])
def test_what_is_read_in_pieces_is_what_the_update_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    values: tuple[str, str],
    clip_norm: float | None,
) -> None:
    """To the bit: whatever its codec, its mask, its level and its base."""
    seen: list[float] = []
    add = TrimmedMean.add

    def add_and_look(self: TrimmedMean, member: Member) -> None:
        add(self, member)
        content = member.contribution
        assert content.weights is not None
        held, kept = whole(self._prunable[-1])
        assert np.array_equal(held, content.mask)
        if content.before is None:
            assert np.array_equal(kept, content.weights.prunable)
            return
        dense = whole(self._dense[member.update.level][-1])[1]
        moved = np.hypot(
            change_norm(content.before.prunable, kept),
            change_norm(*(np.delete(one, self._running) for one in (content.before.dense, dense))),
        )
        if clip_norm is None:
            assert kept.tobytes() == content.weights.prunable.tobytes()
            assert dense.tobytes() == content.weights.dense.tobytes()
        else:
            assert moved == pytest.approx(clip_norm, rel=1e-5)
        seen.append(moved)

    monkeypatch.setattr(TrimmedMean, "add", add_and_look)
    rule = AggregateConfig(rule="trimmed_mean", trim=TRIM, clip_norm=clip_norm)
    world = world_with(tmp_path, "world", name, values, aggregate=rule)
    world.run()
    assert len(seen) == 10  # five devices, two rounds
    assert world.events("rejected") == []


def oracle(found: list[tuple[BoolArray, Float32Array]], previous: Float32Array) -> Float32Array:
    """Of dense vectors, a coordinate at a time."""
    result = previous.copy()
    for j in range(previous.size):
        values = sorted(float(full[j]) for holds, full in found if holds[j])
        k = int(TRIM * len(values) + 1e-9)
        if values:
            result[j] = np.mean(values[k : len(values) - k])
    return result


@pytest.mark.parametrize("name", ["pdst", "nst"])
def test_a_round_is_the_oracles_trimmed_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    members: list[Member] = []
    monkeypatch.setattr(
        TrimmedMean,
        "add",
        lambda self, one, add=TrimmedMean.add: (members.append(one), add(self, one)),
    )
    rule = AggregateConfig(rule="trimmed_mean", trim=TRIM)
    world = world_with(tmp_path, "world", name, aggregate=rule)
    world.job = replace(world.job, rounds=1)
    states: list[ServerState] = []
    result = TrimmedMean.result

    def remember(self: TrimmedMean, previous: Weights) -> Weights:
        mean = result(self, previous)
        full = []
        for one in members:
            mask, weights = one.contribution.mask, one.contribution.weights
            assert mask is not None
            assert weights is not None
            spread = np.zeros(mask.size, np.float32)
            spread[mask] = weights.prunable
            full.append((mask, spread))
        np.testing.assert_allclose(mean.prunable, oracle(full, previous.prunable), rtol=1e-5)
        every = np.ones(previous.dense.size, np.bool_)
        dense = [(every, one.contribution.weights.dense) for one in members]  # type: ignore[union-attr]
        np.testing.assert_allclose(mean.dense, oracle(dense, previous.dense), rtol=1e-5)
        by_level = defaultdict(list)
        for (_, values), one in zip(dense, members, strict=True):
            by_level[one.update.level].append((every, values))
        for level, values in self.statistics().items():
            wanted = oracle(by_level[level], previous.dense)[self._running]
            np.testing.assert_allclose(values, wanted, rtol=1e-5)
        states.append(self.statistics())  # type: ignore[arg-type]
        return mean

    monkeypatch.setattr(TrimmedMean, "result", remember)
    world.run()
    assert len(states) == 1


def lie(scale: float) -> Any:  # noqa: ANN401
    def change(update: Update, body: bytes) -> tuple[Update, bytes]:
        return update, (np.frombuffer(body, "<f4") * np.float32(scale)).tobytes()

    return change


def weights_after(tmp_path: Path, label: str, rule: AggregateConfig, *, attacked: bool) -> Weights:
    method = MethodConfig(name="pdst", levels=LEVELS, rotate_levels=False, r_int=1)
    world = build_world(tmp_path, label, method=method, rounds=1, aggregate=rule)
    for index in range(6):
        world.add(f"device-{index}", 0.2)
    for device in world.devices[:1]:
        if attacked:
            device.change = {1: lie(1e3)}
    world.run()
    return world.checkpoint().state.weights


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        (AggregateConfig(), np.inf),
        (AggregateConfig(rule="trimmed_mean", trim=0.2), 3.0),
        (AggregateConfig(clip_norm=5.0), 10.0 / 6 + 0.1),
    ],
)
def test_an_attacker_ruins_the_mean_and_no_guarded_rule(
    tmp_path: Path, rule: AggregateConfig, most: float
) -> None:
    calm = weights_after(tmp_path, "calm", rule, attacked=False)
    attacked = weights_after(tmp_path, "attacked", rule, attacked=True)
    moved = np.abs(attacked.prunable - calm.prunable).max()
    if np.isinf(most):
        assert moved > 100
    else:
        assert moved < most


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('rule = "median"', "rule must be one of mean, trimmed_mean, got 'median'"),
        ("trim = 0.5", "trim must be more than 0 and less than 0.5, got 0.5"),
        ("trim = 0", "trim must be"),
        ("clip_norm = 0.0", "clip_norm must be positive, got 0.0"),
        ("clip_norm = inf", "clip_norm: expected a finite number"),
        ("clip = 1.0", "unknown key 'clip'"),
        ('rule = "trimmed_mean"\n[method]\nreference_compat = true', "no [aggregate] with it"),
    ],
)
def test_a_job_file_with_another_rule_is_refused_by_key(
    tmp_path: Path, text: str, error: str
) -> None:
    path = tmp_path / "job.toml"
    head = 'name = "job"\nsite = "site"\nplan = "plan.json"\noutput = "out"\nrounds = 1\n'
    path.write_text(f"{head}[aggregate]\n{text}\n", "utf-8")
    with pytest.raises(ConfigError, match=re.escape(error)):
        load(JobConfig, path)


def test_a_job_file_says_how_updates_become_one(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    head = 'name = "job"\nsite = "site"\nplan = "plan.json"\noutput = "out"\nrounds = 1\n'
    path.write_text(
        f'{head}[aggregate]\nrule = "trimmed_mean"\ntrim = 0.2\nclip_norm = 3.5\n', "utf-8"
    )
    wanted = AggregateConfig(rule="trimmed_mean", trim=0.2, clip_norm=3.5)
    assert load(JobConfig, path).aggregate == wanted


def test_a_kill_at_any_point_does_not_change_a_guarded_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = AggregateConfig(rule="trimmed_mean", trim=TRIM, clip_norm=2.0)
    calm = world_with(tmp_path, "calm", values=(I8, F16), aggregate=rule)
    with crash_points_at_the_disk(calm, monkeypatch):
        calm.run()
    expected = content_of(calm)
    for point in range(3, calm.crash_points, 7):
        world = world_with(tmp_path, f"{point}", values=(I8, F16), aggregate=rule)
        world.crash_at = point
        with crash_points_at_the_disk(world, monkeypatch):
            with pytest.raises(Killed):
                world.run()
            world.run()
        assert content_of(world) == expected, point


def peak_of_a_round(folder: Path, cohort: int) -> int:
    """Bytes at most for the trimmed mean of a model of 100,000 weights, from files of int8."""
    builder = PlanBuilder("wide", (256,))
    builder.linear("wide", 400)
    plan = builder.build()
    rng = np.random.default_rng(0)
    mask = rng.random(plan.num_prunable) < 0.5
    weights = Weights(
        prunable=rng.standard_normal(int(mask.sum()), np.float32),
        dense=np.zeros(plan.num_dense, np.float32),
    )
    counts, digest = counts_of(plan, mask), mask_digest(plan.digest, mask)
    body = encode_values(weights, I8, counts)
    path = folder / "body"
    path.write_bytes(body)

    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    model = Weights(prunable=np.zeros(mask.size, np.float32), dense=weights.dense)
    masks = MasksOnDisk(plan.num_prunable, folder)
    rule = TrimmedMean(plan, lambda _: model, 0.1, masks, level_statistics=True)
    update = Update(
        job="job", round_id=1, stage=Stage.TRAIN, level=0.5, num_examples=1, mask_digest=digest,
        parts=(Part(name="values", codec=I8, size=len(body)),),
    )  # fmt: skip
    asked = Asked(
        stage=Stage.TRAIN, level=0.5, mask_digest=digest, mask=lambda: mask, sent=lambda: "",
        before=lambda: model, evolves=False,
    )  # fmt: skip
    content = Contribution(mask=mask, weights=weights, counts=counts, before=weights)
    for _ in range(cohort):
        rule.add(
            Member(
                update=update, contribution=content, examples=1, asked=asked,
                shrinkage=Shrinkage(), read=read,
            )
        )  # fmt: skip
    with masks:
        tracemalloc.start()
        rule.result(model)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_a_cohort_five_times_as_large_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 1 << 15

    def smaller(*arguments: Any) -> Float32Array:  # noqa: ANN401
        return trimmed_mean(*arguments, most)

    monkeypatch.setattr("aggregator.trimming.trimmed_mean", smaller)
    few, many = (peak_of_a_round(tmp_path, cohort) for cohort in (10, 50))
    model_bytes = 4 * 256 * 400
    assert many < model_bytes + 14 * most + 50 * 6_000  # what each reader of a file takes
    assert few < model_bytes + 14 * most + 10 * 6_000
