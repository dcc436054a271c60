"""Whole jobs: the real aggregator and the real client machine, without a training engine."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_world import LEVELS, World, build_world, content_of, method, task_of

from aggregator.checkpoint import generations
from aggregator.job import CohortConfig
from fedsparse.methods.method import METHODS
from fedsparse.methods.schedule import learning_rate
from fedsparse.methods.state import ServerState
from fedsparse.methods.statistics import running_positions
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import mask_digest
from fedsparse.sparsity.values import decode_values
from fedsparse.transport.memory import MemoryBroker
from fedsparse.types import Weights
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Part, Stage, Verdict


def oracle_round(world: World, state: ServerState, round_id: int) -> tuple[np.ndarray, np.ndarray]:
    """FedAvg over holders, in float64, from what the devices computed."""
    top, weight = np.zeros(world.plan.num_prunable), np.zeros(world.plan.num_prunable)
    dense, examples = np.zeros(world.plan.num_dense), 0
    for device in world.devices:
        task, body = task_of(device, round_id)
        update, content = device.make_update(task, body)
        mask = next(m for m in state.masks.values() if mask_digest(world.plan.digest, m)
                    == update.mask_digest)  # fmt: skip
        part, data = split_parts(update.parts, content)["values"]
        values = decode_values(part.codec, data, counts_of(world.plan, mask), world.plan.num_dense)
        top[mask] += np.float64(device.num_examples) * values.prunable
        weight[mask] += device.num_examples
        dense += np.float64(device.num_examples) * values.dense
        examples += device.num_examples
    previous = state.weights.prunable.astype(np.float64)
    return np.where(weight > 0, top / np.maximum(weight, 1), previous), dense / examples


@pytest.mark.parametrize("rotate", [False, True])
def test_a_job_with_stage_one_and_three_levels_agrees_with_a_float64_oracle(
    tmp_path: Path, rotate: bool
) -> None:
    world = build_world(tmp_path, method=method("spdst", rotate_levels=rotate)).add_fleet()
    states: list[ServerState] = []
    aggregator = None

    def watch() -> None:
        # The states are taken from the checkpoints, as anyone could.
        if generations(world.job.output):
            state = world.checkpoint().state
            if state.sensed and (
                not states
                or not np.array_equal(state.weights.prunable, states[-1].weights.prunable)
            ):
                states.append(state)
        world.at_tick[world.ticks + 1] = watch

    watch()
    aggregator = world.run()
    assert len(states) == 1 + world.job.rounds
    for round_id, (before, after) in enumerate(itertools.pairwise(states), start=1):
        prunable, dense = oracle_round(world, before, round_id)
        np.testing.assert_allclose(after.weights.prunable, prunable, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(after.weights.dense, dense, rtol=1e-6, atol=1e-7)
        assert all(np.array_equal(before.masks[k], after.masks[k]) for k in LEVELS)
    assert np.array_equal(aggregator.model.state.weights.prunable, states[-1].weights.prunable)
    assert not np.array_equal(states[0].weights.prunable, states[-1].weights.prunable)
    assert aggregator.trained_levels == list(LEVELS)


def test_the_course_of_a_job_is_sense_rounds_evaluation_end(tmp_path: Path) -> None:
    world = build_world(tmp_path).add_fleet()
    aggregator = world.run()
    opened = world.events("round_opened")
    assert [(event["round"], event["stage"]) for event in opened] == [
        (0, "sense"), (1, "train"), (2, "train"), (3, "train"), (4, "evaluate"),
    ]  # fmt: skip
    closed = world.events("round_closed")
    assert [event["updates"] for event in closed] == [2, 5, 5, 5, 5]
    assert [event["mask_changed"] for event in closed] == [True, False, False, False, False]
    assert world.checkpoint().stage is Stage.DONE
    assert aggregator.done
    assert aggregator.evaluated_on == "devices"
    assert all(device.rounds.offer and device.rounds.offer.stage is Stage.DONE
               for device in world.devices)  # fmt: skip


def values_of(
    world: World, state: ServerState, level: float, parts: tuple[Part, ...], body: bytes
) -> Weights:
    part, values = split_parts(parts, body)["values"]
    counts = counts_of(world.plan, state.masks[level])
    return decode_values(part.codec, values, counts, world.plan.num_dense)


@pytest.mark.parametrize("own", [True, False])
def test_each_level_has_running_statistics_of_its_own(tmp_path: Path, own: bool) -> None:
    chosen = replace(method("pdst"), level_statistics=own)
    world = build_world(tmp_path, method=chosen).add_fleet()
    aggregator = world.run()
    state, where = aggregator.model.state, running_positions(world.plan)
    assert where.size == 128
    for level in LEVELS:
        trained = []
        for device in world.devices:
            update, content = device.make_update(*task_of(device, 3))
            if update.level == level:
                dense = values_of(world, state, level, update.parts, content).dense
                trained.append((device.num_examples, dense[where].astype(np.float64)))
        mean = np.average([d for _, d in trained], axis=0, weights=[n for n, _ in trained])
        given = state.weights_at(level).dense[where]
        assert np.allclose(given, mean, rtol=1e-5) == own
        # What a device of this level is given to score is the same model.
        scored = next(d for d in world.devices if d.tasks[-1].level == level)
        sent = values_of(world, state, level, scored.tasks[-1].parts, scored.bodies[-1])
        assert np.array_equal(sent.dense[where], given)


@pytest.mark.parametrize("name", METHODS)
def test_the_result_does_not_depend_on_the_order_of_arrival(tmp_path: Path, name: str) -> None:
    results = set()
    for shuffle in range(3):
        world = build_world(tmp_path, shuffle, method=method(name))
        world.add_fleet()
        if name == "dense":
            for device in world.devices:
                device.level = 1.0
        random.Random(shuffle).shuffle(world.devices)
        world.run()
        results.add(content_of(world))
    assert len(results) == 1


@pytest.mark.parametrize("name", ["nst", "spdst", "jmwst"])
def test_the_result_is_the_same_where_everything_is_delivered_twice(
    tmp_path: Path, name: str
) -> None:
    once = build_world(tmp_path, "once", method=method(name)).add_fleet()
    once.run()
    twice = build_world(tmp_path, "twice", method=method(name))
    twice.broker = MemoryBroker(duplicates=True)
    twice.add_fleet()
    twice.run()
    assert content_of(once) == content_of(twice)


def test_a_seed_decides_the_result(tmp_path: Path) -> None:
    results = []
    for index, seed in enumerate((1, 1, 2)):
        world = build_world(tmp_path, index, seed=seed).add_fleet()
        world.run()
        results.append(content_of(world))
    assert results[0] == results[1] != results[2]


# Bytes


def test_a_mask_is_sent_once_as_long_as_it_does_not_change(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    world.run()
    for device in world.devices:
        assert [[part.name for part in task.parts] for task in device.tasks] == [
            ["mask", "values"], ["values"], ["values"], ["values"],
        ]  # fmt: skip


def test_a_device_is_sent_the_plan_where_it_has_none_and_then_takes_part(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    world.devices[1].plan = None
    world.run()
    assert world.devices[1].plan == world.plan
    assert len(world.devices[1].tasks) == 4


def test_jmwst_sends_mask_changes_at_mask_epochs_only(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("jmwst"), rounds=5).add_fleet()
    world.run()
    for device in world.devices:
        training = [task for task in device.tasks if task.stage is Stage.TRAIN]
        assert [task.evolve for task in training] == [False, True, False, True, False]
        with_mask = [any(part.name == "mask" for part in task.parts) for task in training]
        assert with_mask == [True, False, True, False, True]
    changed = {event["round"]: event["mask_changed"] for event in world.events("round_closed")}
    assert changed == {0: True, 1: False, 2: True, 3: False, 4: True, 5: False, 6: False}


def test_nst_devices_go_on_with_their_own_masks_and_are_not_sent_them(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("nst")).add_fleet()
    world.run()
    seen = set()
    for device in world.devices:
        training = [task for task in device.tasks if task.stage is Stage.TRAIN]
        assert all(task.evolve for task in training)
        parts = [[part.name for part in task.parts] for task in training]
        assert parts == [["mask", "values"], ["values"], ["values"]]
        assert len({task.mask_digest for task in training}) == len(training)
        seen.add(training[-1].mask_digest)
        updates = [device.make_update(*task_of(device, task.round_id))[0] for task in training]
        assert any(update.parts[0].base for update in updates)  # a change is shorter than a mask
    assert len(seen) == len(world.devices)


def test_nst_works_with_more_devices_than_masks_are_kept_in_memory(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("nst"), rounds=2)
    for index in range(40):
        world.add(f"device-{index:02}", LEVELS[index % 3])
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [40, 40, 40]


# Tasks


def test_a_task_says_how_to_train_and_the_rate_falls_as_scheduled(tmp_path: Path) -> None:
    world = build_world(tmp_path).add_fleet()
    world.run()
    device = world.devices[0]
    training = [task for task in device.tasks if task.stage is Stage.TRAIN]
    assert [task.learning_rate for task in training] == [
        learning_rate(index, 3, 0.1, 0.01) for index in range(3)
    ]
    sensing = [task for one in world.devices for task in one.tasks if task.stage is Stage.SENSE]
    assert [task.epochs for task in sensing] == [2, 2]
    assert all(task.evolve for task in sensing)
    assert all(0 < task.seconds_left <= 10 for task in device.tasks)


def test_levels_that_nobody_can_hold_are_dropped_at_the_start(tmp_path: Path) -> None:
    world = build_world(tmp_path)
    for name, level in (("a", 0.1), ("b", 0.05), ("c", None)):
        world.add(name, level)
    aggregator = world.run()
    assert aggregator.model.levels == (0.1, 0.05)
    assert aggregator.trained_levels == [0.1, 0.05]
    assert world.devices[2].tasks == []


def test_a_level_that_nobody_trained_is_not_among_the_trained_ones(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst"))
    world.add("a", 0.2)
    world.add("b", 0.05)
    aggregator = world.run()
    assert aggregator.model.levels == LEVELS
    assert aggregator.trained_levels == [0.2, 0.05]


# Devices that fail


def test_a_silent_device_does_not_stop_a_round(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    world.devices[0].silent_in = {2}
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [5, 4, 5, 5]
    waited = world.events("round_closed")[1]["wall_s"]
    assert 10.0 <= waited < 12.0  # the deadline


def test_a_device_that_is_killed_in_mid_round_costs_the_grace_only(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    world.devices[0].silent_in = {1}
    world.at_tick[30] = lambda: world.devices.pop(0).kill()
    world.run()
    closed = world.events("round_closed")
    assert closed[0]["updates"] == 4
    assert closed[0]["wall_s"] < 5.0


def test_a_device_that_restarts_in_mid_round_delivers_in_the_same_round(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    device = world.devices[0]
    device.silent_in = {1}

    def restart() -> None:
        device.kill()
        device.silent_in = set()
        device.begin()

    world.at_tick[30] = restart
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [5, 5, 5, 5]


def test_a_round_in_which_nobody_delivers_is_offered_again(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    for device in world.devices:
        device.silent_in = {1}

    def heal() -> None:
        for device in world.devices:
            device.silent_in = set()
            device.rounds.failed()

    world.at_tick[int(9 / 0.05)] = heal
    world.run()
    assert [event["attempt"] for event in world.events("round_opened")] == [0, 1, 0, 0, 0]
    assert len(world.events("round_repeated")) == 1
    assert [event["updates"] for event in world.events("round_closed")] == [5, 5, 5, 5]


def test_a_round_that_is_offered_again_while_devices_still_train_goes_on(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    for device in world.devices:
        device.silent_in = {1}

    def heal() -> None:  # the second attempt is open, and all devices are at the first one's task
        for device in world.devices:
            device.silent_in = set()
            device.perform(device.rounds.failed())

    world.at_tick[int(14 / 0.05)] = heal
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [2, 5, 5, 5]


def test_sampling_leaves_the_rest_of_the_fleet_idle(tmp_path: Path) -> None:
    cohort = CohortConfig(min_devices=2, participation=0.4, gather_s=1.0, deadline_s=10.0)
    world = build_world(tmp_path, method=method("pdst"), cohort=cohort).add_fleet()
    world.run()
    assert [event["cohort"] for event in world.events("round_closed")] == [2, 2, 2, 5]


def test_every_update_gets_a_receipt(tmp_path: Path) -> None:
    world = build_world(tmp_path).add_fleet()
    world.run()
    for device in world.devices:
        assert len(device.receipts) == len(device.tasks)
        assert {receipt.verdict for receipt in device.receipts} == {Verdict.ACCEPTED}
        assert device.outbox is None
