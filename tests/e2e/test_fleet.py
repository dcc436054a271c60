"""Real processes on a real broker: faults do not change the result, and stop nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e_fleet import AGGREGATOR, JOB, Event, Fleet, assert_same

from aggregator.evaluate import load_test_set
from aggregator.job import CohortConfig, ValuesConfig
from aggregator.models.session import open_session
from fedsparse.plan import Plan

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of the job when nothing happens to it."""
    with Fleet(tmp_path_factory.mktemp("undisturbed")) as fleet:
        fleet.start()
        done = fleet.wait_until_done()
        assert done["evaluated_on"] == "gateway"
        return fleet.result()


def is_update(event: Event, round_id: int) -> bool:
    return event["event"] == "update" and event["round"] == round_id


def is_task(event: Event, round_id: int, device: str) -> bool:
    return (event["event"], event.get("round"), event.get("device")) == (
        "task_sent",
        round_id,
        device,
    )


def test_the_same_job_on_amqtt_ends_with_the_same_model(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with Fleet(tmp_path, broker="amqtt") as fleet:
        fleet.start()
        fleet.wait_until_done()
        assert_same(fleet.result(), undisturbed)


def test_an_aggregator_killed_in_mid_round_goes_on_with_the_same_round(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start()
        fleet.wait_for(lambda event: is_update(event, 2))
        fleet.kill(AGGREGATOR)
        fleet.start_aggregator()
        resumed = fleet.wait_for(lambda event: event["event"] == "round_opened")
        assert resumed["round"] == 2
        assert resumed["attempt"] == 1
        fleet.wait_until_done()
        assert_same(fleet.result(), undisturbed)


def test_a_device_killed_in_mid_round_gets_its_task_again(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start()
        fleet.wait_for(lambda event: is_task(event, 2, "device-1"))
        fleet.kill("device-1")
        fleet.start_device("device-1")
        fleet.wait_until_done()
        assert_same(fleet.result(), undisturbed)


def test_a_broker_that_is_killed_and_comes_back_costs_nothing_but_time(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start()
        fleet.wait_for(lambda event: is_task(event, 2, "device-0"))
        fleet.restart_broker()
        fleet.wait_until_done()
        assert_same(fleet.result(), undisturbed)


def test_a_device_that_stays_away_does_not_stop_the_round_and_rejoins_under_its_name(
    tmp_path: Path,
) -> None:
    cohort = CohortConfig(
        min_devices=2, expected_devices=3, gather_s=30, deadline_s=120, offline_grace_s=0.2
    )
    with Fleet(tmp_path, replace(JOB, cohort=cohort, rounds=30)) as fleet:
        fleet.start()
        fleet.wait_for(lambda event: is_task(event, 2, "device-2"))
        fleet.kill("device-2")
        closed = fleet.wait_for(lambda event: event["event"] == "round_closed")
        assert (closed["round"], closed["updates"], closed["cohort"]) == (2, 2, 3)
        fleet.start_device("device-2")
        back = fleet.wait_for(
            lambda event: event["event"] == "update" and event["device"] == "device-2"
        )
        assert back["round"] > 2


def test_a_device_whose_training_diverges_is_reported_and_sends_no_weights(tmp_path: Path) -> None:
    """Its samples are beyond all scale: finite, but not what comes of them."""
    with Fleet(tmp_path, replace(JOB, rounds=2)) as fleet:
        with np.load(fleet.samples["device-1"]) as arrays:
            x, y = arrays["x"].astype(np.float32), arrays["y"]
        np.savez(fleet.samples["device-1"], x=(x + 1) * np.float32(1e37), y=y)
        fleet.start()
        done = fleet.wait_until_done()
    failures = fleet.named("device_failed")
    assert {failure["device"] for failure in failures} == {"device-1"}
    assert all("training diverged: the loss is" in failure["reason"] for failure in failures)
    assert {failure["round"] for failure in failures} == {0, 1, 2}
    assert {update["device"] for update in fleet.named("update")} == {"device-0", "device-2"}
    closed = [one for one in fleet.named("round_closed") if one["stage"] == "train"]
    assert [(one["updates"], one["cohort"]) for one in closed] == [(2, 3), (2, 3)]
    assert max(done["accuracy"].values()) > 0.2


@pytest.mark.parametrize("codec", ["f32", "i8"])
def test_without_a_test_set_the_hold_outs_of_the_devices_judge_the_model(
    tmp_path: Path, codec: str
) -> None:
    values = ValuesConfig(up=codec, down=codec, error_feedback=True)
    with Fleet(tmp_path, replace(JOB, values=values), test_set=False) as fleet:
        fleet.start()
        done = fleet.wait_until_done()
    assert done["evaluated_on"] == "devices"
    assert fleet.named("round_closed")[-1]["stage"] == "evaluate"
    assert done["accuracy"] == fleet.named("round_scored")[-1]["accuracy"]
    assert 0.2 < max(done["accuracy"].values()) <= 1.0
    assert fleet.named("rejected") == []
    for device in fleet.devices:  # what an accepted update lost is on the device's disk
        assert (tmp_path / device / "residual").exists() == (codec == "i8")


def test_the_exported_model_scores_what_the_job_said(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start()
        done = fleet.wait_until_done()
    assert done["onnx"]
    plan = Plan.from_json((tmp_path / "plan.json").read_bytes())
    x, y = load_test_set(fleet.job.test_data or Path(), plan)
    for path in map(Path, done["onnx"]):
        session = open_session(path.read_bytes())
        logits = np.asarray(session.run(None, {"input": x})[0])
        level = path.stem.removeprefix("model-")
        assert done["accuracy"][level] == pytest.approx((logits.argmax(1) == y).mean(), abs=1e-5)


def test_a_job_that_is_done_ends_at_once_when_it_is_started_again(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start()
        first = fleet.wait_until_done()
        assert fleet.wait_for_exit(AGGREGATOR) == 0
        fleet.start_aggregator()
        again = fleet.wait_until_done()
    assert json.dumps(again["onnx"]) == json.dumps(first["onnx"])
