"""What a device remembers of its decisions, learns from its tasks, and is forbidden."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_bench import LEVELS, Bench
from device_readings import heat, power

from edge_client.agent import ledger
from edge_client.budget.correction import AGENT_S, KILLED_FOR_MEMORY, Correction
from edge_client.budget.document import read_document
from edge_client.budget.hysteresis import Hold
from fedsparse.errors import ConfigError
from fedsparse.wire.messages import Failure, Ready, Stage, Update


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.agent.close()


def restart(bench: Bench) -> None:
    bench.broker.cut(bench.transport)
    bench.start()


def level_of(bench: Bench, round_id: int, **changes: object) -> float | None:
    bench.say(bench.offer(round_id, **changes))
    while (ready := bench.hear(Ready)[0]).round_id != round_id:
        pass  # the offer that the broker had kept was answered, too
    return ready.level


def hold_of(bench: Bench) -> Hold:
    return Hold.from_json(bench.store.hold.read_bytes())


def correction_of(bench: Bench) -> Correction:
    (path,) = (bench.store.root / "calibrations").glob("*.learnt")
    return Correction.from_json(path.read_bytes())


# Levels


def test_a_level_goes_down_at_once_and_up_after_some_offers_with_room(bench: Bench) -> None:
    bench.write_calibration(LEVELS)
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2
    assert level_of(bench, 2, seconds_left=2.0000001) is None
    levels = [level_of(bench, round_id) for round_id in range(3, 7)]
    assert levels == [0.1, 0.1, 0.2, 0.2]


def test_a_restart_forgets_no_level(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    level_of(bench, 2, seconds_left=0.5)
    assert level_of(bench, 3) == 0.1
    restart(bench)
    assert level_of(bench, 4) == 0.1
    restart(bench)
    assert level_of(bench, 5) == 0.2


@pytest.mark.parametrize("content", [b"", b"rubbish", b'{"version": 1}', b"\xff"])
def test_a_damaged_memory_is_forgotten_with_a_line_in_the_log(
    bench: Bench, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ready()
    bench.hear(Ready)
    level_of(bench, 2, seconds_left=0.5)
    assert hold_of(bench).level == 0.1
    bench.store.hold.write_bytes(content)
    restart(bench)
    assert "forgotten=level.json" in caplog.text
    assert level_of(bench, 3) == 0.2


# What tasks took


def run_task(bench: Bench, update: Update, round_id: int = 1) -> None:
    bench.write_update(replace(update, round_id=round_id))
    bench.say(*bench.task(round_id, level=update.level))
    bench.hear(Update)


def test_the_next_forecast_is_what_the_last_task_took(bench: Bench) -> None:
    slow = replace(bench.timing(8), step_s={8: 0.1, 4: 0.2}, multiply_adds=1_000)
    bench.write_calibration(LEVELS, timing=slow)
    bench.ready()
    bench.hear(Ready)
    run_task(bench, replace(bench.update(), train_s=7.5, peak_rss_bytes=40 * 2**20))
    bench.say(bench.offer(2))
    ready, _ = bench.hear(Ready)
    assert "x calibrated" in ready.reason
    document = read_document(bench.store.decision)
    assert document is not None
    (row, *_) = document["rows"]
    correction = document["means"]["correction"]
    assert correction["tasks"] == 1
    assert row["training_s"] == pytest.approx(7.5)
    peak = row["peak_bytes"] - document["means"]["agent_bytes"]
    assert peak == pytest.approx(40 * 2**20, rel=1e-6)


def test_what_was_learnt_survives_a_restart_and_goes_with_its_calibration(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    run_task(bench, replace(bench.update(), peak_rss_bytes=60 * 2**20))
    factor = correction_of(bench).memory_factor
    assert factor > 1
    restart(bench)
    assert level_of(bench, 2) == 0.2
    document = read_document(bench.store.decision)
    assert document is not None
    assert document["means"]["correction"]["memory_factor"] == factor
    (calibration,) = (bench.store.root / "calibrations").glob("*.json")
    calibration.unlink()
    bench.write_calibration(LEVELS, timing=replace(bench.timing(8), multiply_adds=2_000_000))
    level_of(bench, 3)
    document = read_document(bench.store.decision)
    assert document is not None
    assert document["means"]["correction"] == {
        "time_factor": 1.0, "memory_factor": 1.0, "start_s": 2.0, "tasks": 0,
    }  # fmt: skip


def test_on_an_emulated_board_this_machines_clock_corrects_nothing_but_its_memory_does(
    bench: Bench,
) -> None:
    slow = replace(bench.timing(8), step_s={8: 0.1, 4: 0.2}, multiply_adds=1_000)
    bench.write_calibration(LEVELS, timing=slow)
    bench.ready()
    bench.hear(Ready)
    answer = bench.agent._answers.current
    assert answer is not None
    assert answer.learner is not None
    update = replace(bench.update(), train_s=9.0, peak_rss_bytes=40 * 2**20)
    for emulated, corrects in ((True, False), (False, True)):
        learner = replace(answer.learner, emulated=emulated)
        bench.agent._ledger.trained(learner, bench.task()[0], update, 12.0)
        correction = correction_of(bench)
        assert (correction.time_factor > 1) == corrects
        assert (correction.start_s > 2) == corrects
        assert correction.memory_factor > 1


def test_an_evaluation_says_nothing_of_the_speed_of_training(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    bench.write_update(replace(bench.update(), stage=Stage.EVALUATE, train_s=9.0))
    bench.say(*bench.task(stage=Stage.EVALUATE))
    bench.hear(Update)
    assert correction_of(bench).time_factor == 1.0


def test_a_trainer_that_is_killed_for_memory_is_a_broken_promise(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    good, bench.trained = bench.trained, "kill -9 $$"
    bench.at_work()
    bench.hear(Failure)
    assert "promise=broken round=1 level=0.2 what='killed for memory'" in caplog.text
    assert correction_of(bench).memory_factor == pytest.approx(KILLED_FOR_MEMORY)
    bench.trained = good
    bench.write_script()
    bench.say(bench.offer(2))
    ready, _ = bench.hear(Ready)
    assert ready.level == 0.1
    assert ready.reason.endswith("; before: killed for memory at 0.2 in round 1")
    run_task(bench, replace(bench.update(), level=0.1), 2)
    assert hold_of(bench).broken == ""  # it is mended by a task that went well
    bench.say(bench.offer(3))
    assert "before:" not in bench.hear(Ready)[0].reason


def test_a_trainer_that_is_refused_memory_is_one_too(bench: Bench) -> None:
    bench.trained = "echo 'out of memory: no more' >&2; exit 5"
    bench.at_work()
    assert "out of memory: no more" in bench.hear(Failure)[0].reason
    assert "killed for memory at 0.2 in round 1" in hold_of(bench).broken


def test_a_trainer_that_is_ended_at_its_deadline_is_one_too(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.budget.correction.TRAINER_START_S", 0.0)
    bench.trained = "exec sleep 100"
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.task(seconds_left=0.3))
    bench.hear(Failure)
    assert "promise=broken" in caplog.text
    assert correction_of(bench).start_s == 0.3 + AGENT_S
    bench.say(bench.offer(2))
    ready, _ = bench.hear(Ready)
    assert ready.level == 0.1
    assert ready.predicted_round_s > 0.3
    assert ready.reason.endswith("; before: not done in 0 s at 0.2 in round 1")


def test_a_task_that_came_too_late_to_be_done_breaks_no_promise(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.trained = "exec sleep 100"
    bench.ready()
    bench.hear(Ready)
    bench.say(*bench.task(seconds_left=0.05))  # of the two seconds that it needs
    bench.hear(Failure)
    assert "promise=broken" not in caplog.text
    assert hold_of(bench).level == 0.2


def test_other_failures_are_no_broken_promise(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.trained = "echo 'EngineError: training diverged' >&2; exit 2"
    bench.at_work()
    bench.hear(Failure)
    assert "promise=broken" not in caplog.text
    assert level_of(bench, 2) == 0.2


# The policy


def with_policy(bench: Bench, text: str) -> Path:
    bench.policy = bench.folder / "policy.toml"
    bench.policy.write_text(text, encoding="utf-8")
    restart(bench)
    return bench.policy


ON_MAINS = "[battery]\nallow = false\n"
COOL = "[temperature]\nmax_celsius = 60\n"


def test_what_the_policy_forbids_is_declined_with_its_reason(bench: Bench) -> None:
    bench.power = power("battery", 80)
    with_policy(bench, ON_MAINS)
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert (ready.level, ready.has_plan) == (None, True)
    assert ready.reason == "declined by policy: power from battery"
    assert bench.runs == 0  # nothing is measured while training is forbidden
    bench.power = power("mains")
    assert level_of(bench, 2) == 0.2


def test_a_plan_is_not_fetched_while_training_is_forbidden(bench: Bench) -> None:
    bench.power = power("battery")
    with_policy(bench, ON_MAINS)
    bench.say(bench.offer())
    assert bench.hear(Ready)[0].has_plan


def test_a_policy_that_is_edited_counts_from_the_next_offer_on(bench: Bench) -> None:
    bench.heat = heat(55.0)
    path = with_policy(bench, COOL)
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2
    path.write_text("[temperature]\nmax_celsius = 50\n", encoding="utf-8")
    assert level_of(bench, 2) is None
    document = read_document(bench.store.decision)
    assert document is not None
    assert document["rows"]  # forecasts are there all the same
    assert document["policy"]["rulings"][0]["because"] == "55.0 of 50 C"
    assert hold_of(bench).level == 0.2
    path.write_text("[temperature\n", encoding="utf-8")
    assert level_of(bench, 3) is None  # the last good one


def test_an_agent_with_a_broken_policy_does_not_start(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="ends at 24:00"):
        with_policy(bench, "[hours]\nallow = ['10:00-25:00']\n".replace("25:00", "24:30"))


def test_a_device_that_declined_asks_itself_again_while_the_round_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.agent.answers.LOOK_AGAIN_S", 0.0)
    bench.power = power("battery")
    with_policy(bench, ON_MAINS)
    bench.ready()
    assert bench.hear(Ready)[0].level is None
    bench.settle()
    assert bench.inbox == []  # nothing new is nothing to tell
    bench.power = power("mains")
    ready, _ = bench.hear(Ready)
    assert (ready.round_id, ready.level) == (1, 0.2)
    bench.say(*bench.task())
    bench.hear(Update)


def test_a_device_without_samples_that_fit_does_not_ask_itself_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.agent.answers.LOOK_AGAIN_S", 0.0)
    bench.ready()
    bench.hear(Ready)
    (bench.folder / "data.npz").rename(bench.folder / "away")
    assert level_of(bench, 2) is None
    (bench.folder / "away").rename(bench.folder / "data.npz")
    bench.settle()
    assert bench.inbox == []


def test_a_task_at_work_is_ended_above_the_temperature_of_the_policy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.agent.agent.HEAT_S", 0.0)
    with_policy(bench, COOL + ON_MAINS)
    bench.trained = 'echo $$ > "$here/pid"; exec sleep 100'
    bench.at_work()
    bench.work_until(lambda: (bench.folder / "pid").exists())
    bench.power = power("battery")  # a task that has begun is finished
    bench.settle()
    assert bench.inbox == []
    bench.heat = heat(61.0)
    failure, _ = bench.hear(Failure)
    assert failure.reason == "stopped by policy: 61.0 C is above 60 C"
    assert not Path(f"/proc/{(bench.folder / 'pid').read_text().strip()}").exists()
    assert level_of(bench, 2) is None


# The document


def test_every_decision_is_in_the_store_with_its_figures(bench: Bench) -> None:
    bench.heat = heat(48.5, throttled=True, reasons=("soft limit",))
    bench.ready()
    ready, _ = bench.hear(Ready)
    assert "throttled now" in ready.reason
    document = json.loads(bench.store.decision.read_bytes())
    assert document["level"] == ready.level
    assert document["reason"] == ready.reason
    assert document["offer"]["job"] == "job"
    assert [row["level"] for row in document["rows"]] == list(LEVELS)
    assert document["rows"][0]["peak_bytes"] == ready.predicted_peak_bytes
    assert document["rows"][0]["round_s"] == ready.predicted_round_s
    assert document["means"]["memory_bytes"] == ready.memory_budget_bytes
    assert document["heat"] == {
        "celsius": 48.5, "zone": "cpu", "throttled": True, "reasons": ["soft limit"],
    }  # fmt: skip
    assert document["power"] == {"source": None, "battery_percent": None}
    assert document["held"] == {"level": 0.2, "rising": None, "offers": 0, "broken": ""}
    assert document["policy"] == {"allows": True, "rulings": []}


def test_every_key_of_the_document_is_documented(bench: Bench) -> None:
    bench.ready()
    bench.hear(Ready)
    document = json.loads(bench.store.decision.read_bytes())
    text = (Path(__file__).parents[3] / "docs" / "budget.md").read_text(encoding="utf-8")
    keys = {*document, *document["rows"][0]} - {"version", "keeps_all"}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_an_offer_that_is_declined_before_a_forecast_is_in_the_store_too(bench: Bench) -> None:
    (bench.folder / "data.npz").unlink()
    bench.ready()
    ready, _ = bench.hear(Ready)
    document = read_document(bench.store.decision)
    assert document is not None
    assert (document["level"], document["rows"], document["means"]) == (None, [], None)
    assert document["reason"] == ready.reason


def decisions(bench: Bench) -> list[tuple[int, float | None]]:
    found = [status.decision for status in bench.statuses if status.decision is not None]
    return [(one.round_id, one.level) for one in found]


def test_the_status_says_what_was_decided_and_only_what_has_changed(bench: Bench) -> None:
    bench.ready()
    ready, _ = bench.hear(Ready)
    level_of(bench, 2)
    level_of(bench, 3, seconds_left=0.5)
    level_of(bench, 4, seconds_left=0.4)
    level_of(bench, 5)
    bench.settle()
    assert decisions(bench) == [(1, 0.2), (3, None), (5, 0.1)]
    first = next(status.decision for status in bench.statuses if status.decision is not None)
    assert (first.job, first.reason) == ("job", ready.reason)


def test_the_status_says_when_a_policy_forbids_instead_of_a_budget(bench: Bench) -> None:
    bench.power = power("mains")
    with_policy(bench, ON_MAINS)
    bench.ready()
    bench.hear(Ready)
    level_of(bench, 2, seconds_left=0.5)
    bench.power = power("battery")
    level_of(bench, 3, seconds_left=0.5)
    bench.settle()
    assert decisions(bench) == [(1, 0.2), (2, None), (3, None)]
    last = bench.statuses[-1].decision
    assert last is not None
    assert last.reason == "declined by policy: power from battery"


def test_a_full_disk_costs_what_was_to_be_remembered_but_not_the_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_durably", "save_document"):
        monkeypatch.setattr(ledger, name, full)
    bench.ready()
    assert bench.hear(Ready)[0].level == 0.2
    assert "not_remembered reason='[Errno 28] No space left on device'" in caplog.text
    bench.at_work()
    bench.hear(Update)
    assert not bench.store.decision.exists()
