"""How good the model is, told beside the rounds: on the gateway's test set, and by devices."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_world import LEVELS, Killed, World, build_world, method, task_of

from aggregator.accumulate import Score
from aggregator.evaluate import Evaluator, load_test_set
from aggregator.events import EventLog
from aggregator.scoring import DeviceScoring, ScoreKeeper, Scores, Unscored
from fedsparse.plan import Loss
from fedsparse.types import BoolArray, Weights
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
    assert all(
        event["test_loss"] for event in world.events("round_scored")
    )  # nobody waited in vain
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


def test_a_round_is_closed_only_when_the_scores_of_the_one_before_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring takes far longer than a round: every round's scores are there nevertheless."""
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    evaluate = Evaluator.evaluate

    def slowly(self: Evaluator, *arguments: Any) -> Evaluation:  # noqa: ANN401
        time.sleep(0.1)  # of every level: a round of this world is done in less
        return evaluate(self, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", slowly)
    world.run()
    lines = (world.job.output / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    told = [one for one in events if one["event"] in ("round_closed", "round_scored")]
    assert [(one["event"][6:], one["round"]) for one in told] == [
        (what, number) for number in range(4) for what in ("closed", "scored")
    ]


@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.MSE])
def test_the_latest_scores_stay_where_a_round_has_none(tmp_path: Path, loss: Loss) -> None:
    """The summary of a job is of the last round that was scored, right and wrong or not."""
    world = build_world(tmp_path)
    state = object()
    with EventLog(tmp_path / "events.jsonl") as events:
        keeper = ScoreKeeper(DeviceScoring(replace(world.plan, loss=loss)), events)
        for round_id, reported in enumerate([{0.1: Score(correct=3, count=4, loss_sum=2.0)}, {}]):
            keeper.begin(Unscored(round_id=round_id, state=state, reported=reported))
            keeper.tell(wait=False)
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [one["test_loss"] for one in told] == [{"0.1": 0.5}, {}]
    assert keeper.latest == Scores(
        accuracy={0.1: 0.75} if loss.has_accuracy else {}, loss={0.1: 0.5}
    )


def test_a_job_that_ends_early_waits_for_no_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    may_end, ended = threading.Event(), []

    def slowly(self: Evaluator, *arguments: Any) -> Evaluation:  # noqa: ANN401
        may_end.wait(10)
        ended.append("yes")
        return Evaluation(correct=0, count=4, loss_sum=0.0)

    def stop() -> None:
        raise Killed

    monkeypatch.setattr(Evaluator, "evaluate", slowly)
    world.when(lambda: bool(world.events("round_closed")), stop)
    with pytest.raises(Killed):
        world.run()
    assert not ended
    may_end.set()


def test_a_job_that_goes_on_scores_the_model_that_it_was_killed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    killed, evaluate = threading.Event(), Evaluator.evaluate

    def not_before_the_kill(self: Evaluator, *arguments: Any) -> Evaluation:  # noqa: ANN401
        assert killed.wait(60)
        return evaluate(self, *arguments)

    def stop() -> None:
        raise Killed

    monkeypatch.setattr(Evaluator, "evaluate", not_before_the_kill)
    world.when(lambda: bool(world.events("round_closed")), stop)
    with pytest.raises(Killed):
        world.run()
    killed.set()
    world.run()
    scored = world.events("round_scored")
    assert [one["round"] for one in scored] == [0, 1, 2, 3]
    assert all(one["test_loss"] for one in scored)


def test_a_level_that_computes_no_numbers_leaves_the_others_their_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "test.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    world = build_world(tmp_path, test_data=tmp_path / "test.npz").add_fleet()
    evaluate = Evaluator.evaluate

    def overflow_at_the_largest(self: Evaluator, weights: Weights, mask: BoolArray) -> Evaluation:
        if mask.mean() > 0.15:
            weights = replace(weights, dense=np.full_like(weights.dense, np.inf))
        return evaluate(self, weights, mask)

    monkeypatch.setattr(Evaluator, "evaluate", overflow_at_the_largest)
    world.run()
    assert [one["test_loss"].keys() for one in world.events("round_scored")[1:]] == [
        {"0.1", "0.05"}
    ] * 3
    assert "outputs are not finite" in caplog.text
