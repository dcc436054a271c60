"""A round that does not start says whom it lacks, why, and what would let it start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from job_world import LEVELS, World, build_world

from aggregator.job import CohortConfig, MethodConfig
from aggregator.report import MAX_MISSING, Waiting
from aggregator.tasks import Round
from fedsparse.wire.messages import MAX_TEXT, Offer, Ready, Stage

NEEDED = 2


def answer(level: float | None, reason: str = "") -> Ready:
    return Ready(
        job="j", round_id=1, attempt=0, level=level, num_examples=5 if level else 0, reason=reason
    )


def waiting(answers: dict[str, Ready | None], stage: Stage, *, salient: bool = False) -> Waiting:
    now = Round(round_id=1, attempt=0, repeats=0, stage=stage, index=0, evaluate=False)
    return Waiting(now=now, needed=NEEDED, answers=answers, salient=salient)


def test_it_names_whom_it_lacks() -> None:
    found = waiting(
        {"b": answer(None, "needs 59 MiB (has 5)"), "a": None, "c": answer(0.1)}, Stage.TRAIN
    )
    assert found.fields() == {
        "round": 1, "stage": "train", "ready": 1, "needed": 2, "way_out": "",
        "not_ready": {"a": "no answer yet", "b": "needs 59 MiB (has 5)"},
    }  # fmt: skip
    assert found.line() == (
        "round=1 waiting=yes ready=1 needed=2 not_ready='a: no answer yet; b: needs 59 MiB (has 5)'"
    )


def test_too_few_devices_are_a_matter_of_starting_more() -> None:
    assert "start more" in waiting({"a": None}, Stage.TRAIN).fields()["way_out"]


@pytest.mark.parametrize(
    ("stage", "salient", "way_out"),
    [
        (Stage.TRAIN, False, "a lower level"),
        (Stage.TRAIN, True, "a lower level"),
        (Stage.SENSE, False, "a lower level"),
        (Stage.SENSE, True, "dense model"),
    ],
)
def test_devices_that_decline_are_a_matter_of_what_is_asked_of_them(
    stage: Stage, salient: bool, way_out: str
) -> None:
    answers = {"a": answer(0.1), "b": answer(None), "c": answer(None)}
    found = waiting(answers, stage, salient=salient)
    assert way_out in found.fields()["way_out"]
    assert way_out in found.line()


def test_a_large_fleet_that_declines_is_named_in_part() -> None:
    found = waiting({f"d{n}": answer(None, "r" * MAX_TEXT) for n in range(1000)}, Stage.TRAIN)
    assert len(found.fields()["not_ready"]) == MAX_MISSING
    assert found.fields()["ready"] == 0
    assert len(found.line()) < MAX_MISSING * (MAX_TEXT + 10) + 400


def holds_the_dense_model(world: World, names: set[str]) -> None:
    """Devices of other names decline an offer that keeps everything."""
    whole = tuple(tensor.size for tensor in world.plan.prunable)
    for device in world.devices:
        real, level = device.decide, device.level

        def decide(
            offer: Offer, device: object = device, real: object = real, level: object = level
        ) -> None:
            fits = device.name in names or offer.kept[-1] != whole  # type: ignore[attr-defined]
            device.level = level if fits else None  # type: ignore[attr-defined]
            real(offer)  # type: ignore[operator]

        device.decide = decide  # type: ignore[method-assign]


def saliency_world(tmp_path: Path, *, min_devices: int, sense_devices: int) -> World:
    method = MethodConfig(name="ssfl", levels=LEVELS, sense_devices=sense_devices)
    cohort = CohortConfig(
        min_devices=min_devices, gather_s=1.0, deadline_s=10.0, offline_grace_s=1.0
    )
    return build_world(tmp_path, method=method, cohort=cohort).add_fleet()


def test_saliency_needs_no_more_devices_with_the_dense_model_than_measure_it(
    tmp_path: Path,
) -> None:
    world = saliency_world(tmp_path, min_devices=3, sense_devices=1)
    holds_the_dense_model(world, {"device-4"})
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [1, 5, 5, 5, 5]


def test_a_job_whose_stage_1_nobody_can_hold_says_so_until_somebody_can(tmp_path: Path) -> None:
    world = saliency_world(tmp_path, min_devices=2, sense_devices=2)
    holds_the_dense_model(world, {"device-0"})

    def help_comes() -> None:
        world.add("big-1", 0.2)

    world.when(lambda: len(world.events("round_waiting")) == 2, help_comes)
    assert world.run().done
    first, second = world.events("round_waiting")
    assert (first["round"], first["stage"], first["ready"], first["needed"]) == (0, "sense", 1, 2)
    assert set(first["not_ready"]) == {f"device-{n}" for n in range(1, 5)}
    assert "dense model" in first["way_out"]
    assert second["time_s"] - first["time_s"] >= 30.0
    assert not [one for one in world.events("round_waiting") if one["round"] > 0]


@pytest.mark.parametrize(("needed", "can_be_lowered"), [(1, False), (2, True)])
def test_no_way_out_is_one_that_is_closed(needed: int, can_be_lowered: bool) -> None:
    found = waiting({"a": answer(None), "b": answer(None)}, Stage.SENSE, salient=True)
    way_out = replace(found, needed=needed).fields()["way_out"]
    assert ("sense_devices" in way_out) is can_be_lowered
