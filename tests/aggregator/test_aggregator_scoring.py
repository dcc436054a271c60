"""How good the model is, told beside the rounds: on the gateway's test set, and by devices."""

from __future__ import annotations

import json
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_world import LEVELS, Killed, World, build_world, method, task_of

from aggregator.evaluate import Evaluator, load_test_set
from fedsparse.types import Weights
from fedsparse.wire.messages import Evaluation, Stage, Update


def test_accuracy_on_devices_pools_their_hold_outs_by_level(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst")).add_fleet()
    aggregator = world.run()
    expected: dict[float, list[int]] = {level: [] for level in LEVELS}
    for device in world.devices:
        update, _ = device.make_update(*task_of(device, 4))
        assert update.evaluation is not None
        expected[update.level].append(update.evaluation.correct)
    assert aggregator.scores.accuracy == {
        level: sum(correct) / (50 * len(correct)) for level, correct in expected.items()
    }


def test_accuracy_on_the_gateway_is_that_of_every_level_through_its_mask(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 6), np.float32), rng.integers(0, 4, 200)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    aggregator = world.run()
    assert aggregator.evaluated_on == "gateway"
    assert [event["stage"] for event in world.events("round_opened")][-1] == "train"
    assert not any(task.evaluate for device in world.devices for task in device.tasks)
    state = aggregator.model.state
    for level, mask in state.masks.items():
        correct = (logits(world, state.weights_at(level), mask, x).argmax(axis=1) == y).sum()
        assert aggregator.scores.accuracy[level] == pytest.approx(correct / 200, abs=0.006)


def logits(world: World, weights: Weights, mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The small plan by hand, in float64."""
    prunable = np.where(mask, weights.prunable, 0).astype(np.float64)
    w1, w2, w3 = np.split(prunable, [6 * 32, 6 * 32 + 32 * 64])
    sizes = [32, 64, 64, 64, 64, 64, 4]
    b1, b2, scale, shift, mean, var, b3 = np.split(
        weights.dense.astype(np.float64), np.cumsum(sizes)[:-1]
    )
    hidden = np.maximum(x @ w1.reshape(32, 6).T + b1, 0) @ w2.reshape(64, 32).T + b2
    normed = (hidden - mean) / np.sqrt(var + 1e-5) * scale + shift
    return np.asarray(np.maximum(normed, 0) @ w3.reshape(4, 64).T + b3)


def test_nst_is_scored_under_the_masks_that_are_exported(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("nst")).add_fleet()
    aggregator = world.run()
    for device in world.devices:
        task, _ = task_of(device, 4)
        assert task.stage is Stage.EVALUATE
        assert task.mask_digest == aggregator.model.level_digest(task.level)


def test_devices_without_a_hold_out_do_not_keep_a_job_from_ending(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=method("pdst"))
    for name in ("a", "b"):
        device = world.add(name, 0.1)
        device.change = dict.fromkeys(
            range(5), lambda update, body: (replace(update, evaluation=None), body)
        )
    aggregator = world.run()
    assert aggregator.done
    assert aggregator.scores.accuracy == {}


def test_updates_are_taken_in_time_while_the_gateway_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large test set takes longer than a round: no deadline passes over it."""
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    may_go_on, evaluate = threading.Event(), Evaluator.evaluate

    def slowly(self: Evaluator, *arguments: Any) -> Evaluation:  # noqa: ANN401
        assert may_go_on.wait(60)
        return evaluate(self, *arguments)

    def in_the_next_round(update: Update, body: bytes) -> tuple[Update, bytes]:
        may_go_on.set()
        return update, body

    monkeypatch.setattr(Evaluator, "evaluate", slowly)
    world.devices[-1].change = {1: in_the_next_round}
    world.run()
    assert {event["updates"] for event in world.events("round_closed")[1:]} == {5}
    lines = (world.job.output / "events.jsonl").read_text(encoding="utf-8").splitlines()
    told = [
        event
        for event in map(json.loads, lines)
        if event["event"] in ("round_closed", "round_scored")
    ]
    assert [(event["event"][6:], event["round"]) for event in told] == [
        (what, number) for number in range(4) for what in ("closed", "scored")
    ]  # a report of a round is that of one whose scores are known


def test_a_fault_in_scoring_does_not_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()

    def fail(self: Evaluator, *arguments: Any) -> Evaluation:  # noqa: ANN401
        raise MemoryError("no room")

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    aggregator = world.run()
    assert aggregator.done
    assert aggregator.scores.accuracy == {}
    assert [event["accuracy"] for event in world.events("round_scored")] == [{}] * 4
    assert "round=3 not_scored=yes" in caplog.text


def test_a_job_that_ends_early_leaves_no_scoring_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    left_off: list[str] = []
    monkeypatch.setattr(Evaluator, "leave_off", lambda self: left_off.append("yes"))

    def stop() -> None:
        raise Killed

    world.when(lambda: bool(world.events("round_scored")), stop)
    with pytest.raises(Killed):
        world.run()
    assert left_off == ["yes"]


def test_an_evaluator_that_is_to_leave_off_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    plan = build_world(tmp_path).plan
    evaluator = Evaluator(plan, *load_test_set(tmp_path / "test.npz", plan))
    evaluator.leave_off()
    with pytest.raises(CancelledError):
        evaluator.evaluate(
            Weights(
                prunable=np.zeros(plan.num_prunable, np.float32),
                dense=np.zeros(plan.num_dense, np.float32),
            )
        )
