"""What a device says and does, round by round; its trainer is a script."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agent_bench import LEVELS, VALUES, Bench

from edge_client.calibration import LayerTiming
from edge_client.config import DataConfig
from edge_client.probe.memory import MemoryReading
from fedsparse.stored import load_message
from fedsparse.wire.headers import encode_message, parts_of
from fedsparse.wire.messages import Failure, Need, Ready, Stage, Update, Verdict

DIGEST = hashlib.sha256(VALUES).hexdigest()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.agent.close()


def test_a_whole_round(bench: Bench) -> None:
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level == 0.2
    assert ready.has_plan
    assert ready.num_examples == 15  # of 20, a quarter held out
    assert ready.predicted_peak_bytes > 0
    assert ready.reason
    bench.say(*bench.task())
    _, body = bench.hear(Update)
    assert body == VALUES
    assert bench.store.outbox.exists()  # until the receipt
    bench.say(bench.receipt(DIGEST))
    assert not bench.store.outbox.exists()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_the_encoding_lost_is_kept_where_the_update_counts(
    bench: Bench, verdict: Verdict
) -> None:
    bench.trained = f'echo lost > "$here/store/outbox/update.residual"; {bench.trained}'
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.task())
    bench.hear(Update)
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert (request["residual"], request["lost"]) == (
        str(bench.store.residual),
        str(bench.store.lost),
    )
    bench.say(bench.receipt("ab" * 32, verdict))  # of another update
    assert bench.store.lost.exists()
    bench.say(bench.receipt(DIGEST, verdict))
    assert not bench.store.lost.exists()
    assert bench.store.residual.exists() == (verdict is Verdict.ACCEPTED)


def test_a_device_without_the_plan_asks_for_it_and_answers_when_it_has_come(bench: Bench) -> None:
    bench.write_script()
    bench.say(bench.offer())
    first, _ = bench.hear(Ready)
    assert not first.has_plan
    assert first.level is None
    bench.say(*bench.plan_task(bench.plan.to_json().encode()))
    second, _ = bench.hear(Ready)
    assert second.level == 0.2
    assert bench.store.load_plan(bench.plan.digest) == bench.plan


@pytest.mark.parametrize("text", [b"{}", b"rubbish", b"[" * 100_000, b"\xff\xfe"])
def test_a_plan_that_is_not_the_one_offered_is_not_kept(bench: Bench, text: bytes) -> None:
    bench.write_script()
    bench.say(bench.offer())
    bench.hear(Ready)
    bench.say(*bench.plan_task(text))
    assert bench.store.load_plan(bench.plan.digest) is None
    bench.say(*bench.plan_task(bench.plan.to_json().encode()))
    assert bench.hear(Ready)[0].level == 0.2


def test_the_kernels_are_measured_before_the_first_answer_and_only_then(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    assert bench.runs == 1
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert request["kind"] == "CalibrateRequest"
    assert request["levels"] == list(LEVELS)
    bench.say(bench.offer(2))
    bench.hear(Ready)
    assert bench.runs == 1
    bench.say(bench.offer(3, batch_size=16))  # another batch: the old figures do not tell
    bench.write_calibration(LEVELS, batch_size=16)
    bench.hear(Ready)
    assert bench.runs == 2


def test_what_was_measured_of_the_dense_model_tells_nothing_of_sparse_ones(bench: Bench) -> None:
    whole = tuple(tensor.size for tensor in bench.plan.prunable)
    bench.ready()
    bench.hear(Ready)
    bench.say(bench.offer(2, stage=Stage.SENSE, kept=(whole, whole), probe=True, steps=1))
    bench.hear(Ready)
    assert bench.runs == 2
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert request["kept"] == [list(whole)] * 2
    for round_id, offer in enumerate((bench.offer(3), bench.offer(4, kept=(whole, whole))), 3):
        bench.say(offer)
        assert bench.hear(Ready)[0].round_id == round_id
    assert bench.runs == 2  # each is kept


def test_offers_that_come_while_the_kernels_are_measured_are_answered_once(bench: Bench) -> None:
    bench.calibrated = f'while [ ! -e "$here/go" ]; do sleep 0.01; done; {bench.calibrated}'
    bench.ready()
    bench.work_until(lambda: bench.runs == 1)
    bench.say(bench.offer())
    bench.say(bench.offer(2))
    assert bench.inbox == []
    (bench.folder / "go").touch()
    ready, _ = bench.hear(Ready)
    assert ready.round_id == 2
    bench.settle()
    assert bench.inbox == []
    assert bench.runs == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo EngineError: no kernels >&2; exit 2", "no kernels"),
        ("kill -9 $$", "killed"),
        ("exit 0", ""),
    ],
)
def test_a_measurement_that_fails_declines_the_round(
    bench: Bench, script: str, reason: str
) -> None:
    bench.calibrated = script
    if not reason:  # it says that all is well, and leaves nothing: what it left is read again
        bench.calibrated = '[ -e "$here/once" ] && { echo tired >&2; exit 1; }; touch "$here/once"'
        reason = "tired"
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "calibration failed" in ready.reason
    assert reason in ready.reason


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.zeros((4, 7), np.float32), r"shape (7,), the model takes (6,)"),
        (np.zeros((0, 6), np.float32), "no samples"),
    ],
)
def test_a_device_whose_samples_do_not_fit_declines_and_says_why(
    tmp_path: Path, x: np.ndarray, reason: str
) -> None:
    bench = Bench(tmp_path)
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(len(x), np.int64))
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert ready.has_plan
    assert reason in ready.reason
    assert bench.runs == 0  # nothing is measured for a round it cannot join
    bench.agent.close()


def test_a_device_whose_samples_are_gone_declines(bench: Bench) -> None:
    (bench.folder / "data.npz").unlink()
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "no such file" in ready.reason


def test_a_device_that_cannot_read_its_memory_declines_with_the_reason(bench: Bench) -> None:
    def unreadable() -> MemoryReading:
        raise OSError("/proc/meminfo: None of None bytes available")

    bench.memory = unreadable  # type: ignore[method-assign]
    bench.start()
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "cannot decide: /proc/meminfo" in ready.reason


def test_a_device_without_the_memory_declines_with_the_figures(bench: Bench) -> None:
    bench.available_bytes = 1_000
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "MiB" in ready.reason
    assert ready.predicted_peak_bytes > ready.memory_budget_bytes


def test_the_trainer_is_told_how_the_device_decided_to_train(bench: Bench) -> None:
    bench.at_work()
    bench.hear(Update)
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert request["setup"] == {
        "engine": "sparse",
        "micro_batch": 8,
        "dense_layers": ["first.weight"],
        "threads": 1,
        "shared_work": 8_000_000,
    }


def test_a_task_of_a_lower_level_is_trained_as_that_level_is(bench: Bench) -> None:
    """Layers keep less there: their sparse kernels may be the faster ones."""
    offer = bench.offer(kept=((20, 12), (9, 6)))
    timing = bench.timing(8)
    layers = {"first.weight": LayerTiming(kept=10, sparse_s=1.0, dense_s=1.0)}
    bench.write_calibration(LEVELS, timing=replace(timing, layers=layers))
    bench.store.save_plan(bench.plan.digest, bench.plan.to_json().encode())
    bench.write_script()
    bench.say(offer)
    assert bench.hear(Ready)[0].level == 0.2
    bench.say(*bench.task(level=0.1))
    bench.hear(Update)
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert request["setup"]["dense_layers"] == []


def test_less_time_means_a_lower_level(bench: Bench) -> None:
    bench.write_calibration(LEVELS)
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2
    bench.say(bench.offer(2, seconds_left=0.5))
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "declined" in ready.reason


def test_an_offer_that_contradicts_its_plan_is_declined(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.say(bench.offer(2, kept=((10**6, 3), (4, 4))))
    assert bench.hear(Ready)[0].level is None
    bench.say(bench.offer(3, kept=((1,), (1,))))
    assert bench.hear(Ready)[0].level is None


# Trainers that fail


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo noise >&2; echo DataError: label 9 >&2; exit 2", "DataError: label 9"),
        ("echo Traceback >&2; echo ValueError: oops >&2; exit 1", "ValueError: oops"),
        ("exit 7", "code 7"),
        ("kill -9 $$", "killed, probably for want of memory"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("exit 0", "no update"),
        ('echo rubbish > "$here/store/outbox/update.head"', "no update"),
    ],
)
def test_a_trainer_that_fails_is_reported_with_its_reason_and_the_agent_lives_on(
    bench: Bench, script: str, reason: str
) -> None:
    good = bench.trained
    bench.trained = script
    bench.at_work()
    failure, _ = bench.hear(Failure)
    assert (failure.job, failure.round_id) == ("job", 1)
    assert reason in failure.reason
    bench.trained = good
    bench.write_script()
    bench.write_update(bench.update(2))
    bench.say(bench.offer(2))
    level = 0.1 if "memory" in reason else 0.2
    assert bench.hear(Ready)[0].level == level
    bench.say(*bench.task(2, level=level))
    assert bench.hear(Update)[0].round_id == 2


def test_a_trainer_that_cannot_be_started_is_reported(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.agent._command = (str(bench.folder / "nowhere"),)
    bench.say(*bench.task())
    failure, _ = bench.hear(Failure)
    assert "cannot be started" in failure.reason


def test_a_trainer_past_the_deadline_is_ended(bench: Bench) -> None:
    bench.trained = "exec sleep 100"
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.task(seconds_left=0.05))
    failure, _ = bench.hear(Failure)
    assert "deadline" in failure.reason


def test_a_missing_mask_is_asked_for_and_the_task_taken_when_it_comes_again(bench: Bench) -> None:
    bench.trained = f'[ -e "$here/mask" ] || {{ touch "$here/mask"; exit 3; }}; {bench.trained}'
    bench.at_work()
    need, _ = bench.hear(Need)
    assert (need.what, need.job, need.round_id) == ("mask", "job", 1)
    bench.say(*bench.task())
    assert bench.hear(Update)[1] == VALUES


# What is told twice, late, or not at all


def test_a_task_that_is_delivered_twice_is_trained_once(bench: Bench) -> None:
    bench.at_work()
    bench.say(*bench.task())
    bench.hear(Update)
    bench.say(*bench.task())
    bench.settle()
    assert bench.runs == 2  # the calibration and one training
    assert bench.inbox == []


def test_a_task_at_a_larger_level_than_was_taken_is_ignored(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers are not signed: a broker may have said in the device's name that it bears more."""
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert ready.level == 0.2
    before = bench.runs
    with caplog.at_level(logging.WARNING):
        bench.say(*bench.task(level=1.0))
    assert "not the one taken" in caplog.text
    assert bench.runs == before
    bench.say(*bench.task(level=0.2))
    bench.hear(Update)


def test_a_plan_that_is_delivered_twice_is_not_mistaken_for_a_task(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.plan_task(bench.plan.to_json().encode()))
    bench.say(*bench.task())
    bench.hear(Update)
    assert bench.runs == 2
    trained, _ = load_message(bench.store.task_head)
    assert [part.name for part in parts_of(trained)] == ["values"]


def test_a_newer_round_ends_the_trainer(bench: Bench) -> None:
    bench.trained = 'echo $$ > "$here/pid"; exec sleep 100'
    bench.at_work()
    bench.work_until(lambda: (bench.folder / "pid").exists())
    bench.say(bench.offer(2))
    assert bench.hear(Ready)[0].round_id == 2
    pid = (bench.folder / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()
    bench.settle()
    assert not any(isinstance(message, Failure) for message, _ in bench.inbox)


def test_the_end_of_the_job_ends_the_trainer(bench: Bench) -> None:
    bench.trained = 'echo $$ > "$here/pid"; exec sleep 100'
    bench.at_work()
    bench.work_until(lambda: (bench.folder / "pid").exists())
    bench.say(bench.offer(2, stage=Stage.DONE))
    assert not Path(f"/proc/{(bench.folder / 'pid').read_text().strip()}").exists()
    assert bench.inbox == []


@pytest.mark.parametrize("verdict", [Verdict.LATE, Verdict.REJECTED])
def test_an_update_that_does_not_count_is_dropped(bench: Bench, verdict: Verdict) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.say(bench.receipt(DIGEST, verdict))
    assert not bench.store.outbox.exists()
    bench.say(bench.offer(2))
    bench.work_until(lambda: any(m.round_id == 2 for m, _ in bench.inbox if isinstance(m, Ready)))


def test_a_foreign_receipt_leaves_the_update_in_the_outbox(bench: Bench) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.say(bench.receipt("cd" * 32))
    bench.say(replace(bench.receipt(DIGEST), round_id=0))
    assert bench.store.outbox.exists()


def test_everything_delivered_twice_makes_one_update(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.broker.duplicates = True
    bench.at_work()
    bench.hear(Update)
    bench.say(bench.receipt(DIGEST))
    bench.settle()
    assert bench.runs == 2
    assert not bench.store.outbox.exists()
    bench.agent.close()


# Restarts


def test_an_agent_that_restarts_delivers_what_is_in_its_outbox(bench: Bench) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.broker.cut(bench.transport)
    bench.start()
    _, body = bench.hear(Update)
    assert body == VALUES
    bench.say(bench.receipt(DIGEST))
    assert not bench.store.outbox.exists()
    assert bench.runs == 2  # it was not trained again


def test_an_agent_that_reconnects_delivers_again(bench: Bench) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.broker.cut(bench.transport)
    assert bench.hear(Update)[1] == VALUES


def test_an_update_of_an_earlier_job_is_not_delivered(bench: Bench) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.broker.cut(bench.transport)
    bench.start()
    bench.say(bench.offer(1, job="another"))
    bench.settle()
    assert not bench.store.outbox.exists()
    assert bench.hear(Ready)[0].job == "another"


def test_an_update_of_an_earlier_run_is_not_delivered_though_its_round_is_the_same(
    bench: Bench,
) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.broker.cut(bench.transport)
    bench.start()
    bench.say(bench.offer(1, run=b"another run 1234"))
    bench.settle()
    assert not bench.store.outbox.exists()
    assert bench.hear(Ready)[0].round_id == 1


def test_a_task_of_an_earlier_run_is_not_done(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.say(bench.offer(1, run=b"another run 1234"))
    bench.hear(Ready)
    before = bench.runs
    task, body = bench.task()
    bench.say(task, body)
    assert bench.runs == before
    bench.write_update(replace(bench.update(), run=b"another run 1234"))
    bench.say(replace(task, run=b"another run 1234"), body)
    assert bench.hear(Update)[0].run == b"another run 1234"


@pytest.mark.parametrize("content", [b"", b"rubbish", b"FSP1"])
def test_a_damaged_outbox_costs_the_update_only(bench: Bench, content: bytes) -> None:
    bench.store.outbox.write_bytes(content)
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2
    assert not bench.store.outbox.exists()


def test_an_outbox_that_is_damaged_before_its_receipt_does_not_stop_the_agent(
    bench: Bench,
) -> None:
    bench.at_work()
    bench.hear(Update)
    bench.store.outbox.write_bytes(b"rubbish")
    bench.say(bench.receipt(DIGEST))
    bench.say(bench.offer())  # as after a reconnect: the update would be sent again
    bench.say(bench.offer(2))
    assert bench.hear(Ready)[0].round_id == 2


def test_a_message_of_another_kind_in_the_outbox_is_removed(bench: Bench) -> None:
    failure = Failure(job="job", round_id=1, reason="")
    bench.store.outbox.write_bytes(encode_message(failure))
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2


def test_an_agent_that_ends_ends_its_trainer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.trained = 'echo $$ > "$here/pid"; exec sleep 100'
    bench.at_work()
    bench.work_until(lambda: (bench.folder / "pid").exists())
    bench.agent.close()
    assert not Path(f"/proc/{(bench.folder / 'pid').read_text().strip()}").exists()


def test_a_broker_that_restarts_finds_the_device_again(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.broker.stop()
    bench.settle()
    bench.broker.restart()
    again, _ = bench.hear(Ready)  # the answer may have been lost
    assert again.level == 0.2


def test_masks_on_offer_and_the_latest_are_named_in_the_answer(bench: Bench) -> None:
    for age, digest in enumerate(("aa" * 32, "bb" * 32, "cc" * 32)):
        path = bench.store.masks / f"{digest}.bits"
        path.write_bytes(b"x")
        os.utime(path, ns=(10**18 + age, 10**18 + age))
    bench.ready()
    assert bench.hear(Ready)[0].held == ("cc" * 32,)
    bench.say(bench.offer(2, mask_digests=("aa" * 32, "dd" * 32)))
    assert bench.hear(Ready)[0].held == ("cc" * 32, "aa" * 32)


def test_a_hold_out_of_nothing_trains_on_everything(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.data = DataConfig(path=tmp_path / "data.npz", holdout=0.0)
    bench.agent.close()
    bench.start()
    bench.ready()
    assert bench.hear(Ready)[0].num_examples == 20
    bench.agent.close()


def test_an_update_without_a_receipt_is_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.agent.agent.RECEIPT_S", 0.0)
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.task())
    _, first = bench.hear(Update)
    _, again = bench.hear(Update)
    assert first == again == VALUES


def test_faulty_samples_are_declined_until_the_file_changes(bench: Bench) -> None:
    good = bench.trained
    bench.trained = "echo 'DataError: label 14 is out of range' >&2; exit 4"
    bench.at_work()
    bench.hear(Failure)
    bench.say(bench.offer(2))
    declined, _ = bench.hear(Ready)
    assert declined.level is None
    assert "label 14" in declined.reason
    os.utime(bench.agent._config.data.path, ns=(1, 1))
    bench.trained = good
    bench.write_script()
    bench.say(bench.offer(3))
    assert bench.hear(Ready)[0].level == 0.2
