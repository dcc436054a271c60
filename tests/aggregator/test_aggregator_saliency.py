"""Jobs whose first round asks for saliency, and jobs that train powers of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_world import LEVELS, World, build_world, content_of

from aggregator.job import MethodConfig, TrainingConfig
from fedsparse.sparsity.masks import salient_mask
from fedsparse.sparsity.values import decode_values
from fedsparse.types import Weights
from fedsparse.wire.codecs import F32
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Offer, Stage, Update, Verdict

TRAINING = TrainingConfig(
    learning_rate=0.1, learning_rate_end=0.01, momentum=0.9, weight_decay=0.001
)


def world_of(name: str, folder: Path, label: str = "world") -> World:
    method = MethodConfig(name=name, levels=LEVELS, sense_epochs=7, r_int=3, rotate_levels=False)
    return build_world(folder, label, method=method, training=TRAINING).add_fleet()


def offers_of(world: World) -> list[Offer]:
    """Every offer that the first device decided on."""
    device, seen = world.devices[0], []
    decide = device.decide

    def noted(offer: Offer) -> None:
        seen.append(offer)
        decide(offer)

    device.decide = noted  # type: ignore[method-assign]
    return seen


def test_saliency_is_asked_of_the_dense_model_and_its_mean_makes_the_masks(tmp_path: Path) -> None:
    world = world_of("ssfl", tmp_path)
    offers = offers_of(world)
    aggregator = world.run()
    sizes = tuple(tensor.size for tensor in world.plan.prunable)
    sensing = [offer for offer in offers if offer.stage is Stage.SENSE]
    assert sensing
    for offer in sensing:
        assert offer.kept == (sizes,) * len(LEVELS)
        assert (offer.epochs, offer.steps, offer.evolve, offer.probe) == (1, 1, False, True)
    later = [offer for offer in offers if offer.stage is not Stage.SENSE]
    assert {(offer.probe, offer.steps) for offer in later} == {(False, None)}

    total, examples = np.zeros(world.plan.num_prunable), 0
    for device in world.devices[:2]:
        task, body = device.tasks[0], device.bodies[0]
        assert task.asks_saliency
        assert (task.momentum, task.weight_decay, task.power) == (0.0, 0.0, 1.0)
        values = split_parts(task.parts, body)["values"][1]
        assert decode_values(F32, values, sizes, world.plan.num_dense) is not None
        update, content = device.make_update(task, body)
        saliency = decode_values(F32, split_parts(update.parts, content)["values"][1], sizes, 0)
        total += device.num_examples * saliency.prunable.astype(np.float64)
        examples += device.num_examples
    mean = (total / examples).astype(np.float32)
    for level, mask in aggregator.model.state.masks.items():
        assert np.array_equal(mask, salient_mask(world.plan, mean, world.plan.kept(level)))
    assert all(task.momentum == 0.9 for d in world.devices for task in d.tasks[1:])
    assert [event["updates"] for event in world.events("round_closed")] == [2, 5, 5, 5, 5]


def negative(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(-1e-3).tobytes() + body[4:]


def enormous(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(2e6).tobytes() + body[4:]


def not_a_number(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(np.nan).tobytes() + body[4:]


def dense_values_too(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=(replace(update.parts[0], size=len(body) + 4),)), body + bytes(4)


def layers_instead(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=(replace(update.parts[0], name="layers", codec="u32"),)), body


def another_mask(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, mask_digest="ab" * 32), body


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (negative, "not in 0 to"), (enormous, "not in 0 to"), (not_a_number, "no number"),
        (dense_values_too, "bytes for"), (layers_instead, "no saliency"),
        (another_mask, "another mask"),
    ],
)  # fmt: skip
def test_bad_saliency_is_rejected(tmp_path: Path, change: object, reason: str) -> None:
    world = world_of("ssfl", tmp_path)
    world.devices[0].change = {0: change}  # type: ignore[dict-item]
    world.run()
    assert world.devices[0].receipts[0].verdict is Verdict.REJECTED
    assert reason in world.devices[0].receipts[0].reason
    assert world.events("round_closed")[0]["updates"] == 1


def test_powers_are_trained_in_training_rounds_alone(tmp_path: Path) -> None:
    world = world_of("sparsyfed", tmp_path)
    offers = offers_of(world)
    world.run()
    for task in (task for device in world.devices for task in device.tasks):
        assert task.power == (1.25 if task.stage is Stage.TRAIN else 1.0)
    assert {(offer.stage, offer.probe) for offer in offers} >= {
        (Stage.TRAIN, True), (Stage.EVALUATE, False),
    }  # fmt: skip
    changed = [event["mask_changed"] for event in world.events("round_closed")]
    assert changed == [True, True, False, False]  # not in the last training round


@pytest.mark.parametrize("name", ["ssfl", "sparsyfed"])
def test_a_seed_gives_the_same_job_to_the_bit(tmp_path: Path, name: str) -> None:
    first, second = (world_of(name, tmp_path, label) for label in ("first", "second"))
    first.run()
    second.run()
    assert content_of(first) == content_of(second)
    assert isinstance(first.checkpoint().state.weights, Weights)
