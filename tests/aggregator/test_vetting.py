"""Changes out of all proportion are refused, and claims of examples capped; nobody else is hurt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_world import (
    LEVELS,
    Device,
    Killed,
    World,
    build_world,
    content_of,
    crash_points_at_the_disk,
    small_job,
)

from aggregator.checkpoint import generations, path_of
from aggregator.job import MethodConfig, ValuesConfig
from aggregator.norms import Norms
from aggregator.vetting import FEWEST, ROUNDS, NormHistory
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.codecs import F16, I8
from fedsparse.wire.messages import Update, Verdict

LEVEL = 0.2


def history(lengths: Sequence[float], level: float = LEVEL) -> NormHistory:
    return NormHistory().followed_by({level: norms(lengths)})


def norms(lengths: Sequence[float]) -> list[Norms]:
    return [Norms(trained=one, statistics=one) for one in lengths]


def refuses(known: NormHistory, length: float, *, repeats: int = 0) -> bool:
    try:
        known.check(LEVEL, Norms(trained=length, statistics=0.0), repeats)
    except RemoteProtocolError:
        return True
    return False


def test_of_few_norms_no_bound_is_made() -> None:
    assert history([1.0] * (FEWEST - 1)).bound(LEVEL) is None
    assert history([1.0] * FEWEST).bound(LEVEL) is not None
    assert history([1.0] * FEWEST).bound(0.1) is None
    history([1.0] * FEWEST).check(LEVEL, None)  # nothing was trained


def test_the_bound_is_six_deviations_above_the_median() -> None:
    bound = history([1, 2, 3, 4, 5, 6, 7, 8, 9]).bound(LEVEL)
    assert bound is not None
    assert bound.trained == pytest.approx(5 + 6 * 1.4826 * 2)  # the median deviation is 2
    assert bound.statistics == pytest.approx(50)


def test_where_all_are_alike_three_times_as_much_is_good() -> None:
    known = history([2.0] * 20)
    assert not refuses(known, 6.0)
    assert refuses(known, 6.01)


def test_where_most_did_not_move_there_is_no_bound() -> None:
    bound = history([0.0] * 5 + [1.0] * 4).bound(LEVEL)
    assert bound == Norms(trained=math.inf, statistics=math.inf)
    assert not refuses(history([0.0] * 20), 1e9)


def test_running_statistics_are_refused_too_and_by_name() -> None:
    with pytest.raises(RemoteProtocolError, match=r"running statistics of length 11, .* 10 at"):
        history([1.0] * 20).check(LEVEL, Norms(trained=1.0, statistics=11.0))


def test_each_repeat_of_a_round_doubles_the_bound() -> None:
    known = history([2.0] * 20)
    assert [refuses(known, 40.0, repeats=n) for n in range(5)] == [True, True, True, False, False]
    assert not refuses(known, 1e12, repeats=10_000)


@given(
    honest=st.lists(st.floats(1.0, 3.0), min_size=FEWEST, max_size=30),
    attackers=st.lists(st.floats(0.0, 1e12), max_size=30),
)
def test_fewer_attackers_than_half_cannot_lift_the_bound_much(
    honest: list[float], attackers: list[float]
) -> None:
    attackers = attackers[: (len(honest) - 1) // 2]
    assert refuses(history([*honest, *attackers]), 3 + 6 * 1.4826 * 2 + 10)
    assert not refuses(history([*honest, *attackers]), min(honest))


def test_the_last_rounds_of_each_level_are_remembered_apart() -> None:
    known = history([7.0], level=0.1)
    for number in range(ROUNDS + 5):
        known = known.followed_by({LEVEL: norms([float(number)]), 0.05: []})
    assert [one[0].trained for one in known.rounds[LEVEL]] == list(range(5, ROUNDS + 5))
    assert [one[0].trained for one in known.rounds[0.1]] == [7.0]
    assert 0.05 not in known.rounds


@given(st.lists(st.lists(st.floats(0, 1e30), min_size=1), max_size=ROUNDS))
def test_a_history_survives_as_plain_values_to_the_bit(rounds: list[list[float]]) -> None:
    known = NormHistory()
    for lengths in rounds:
        known = known.followed_by({LEVEL: norms(lengths), 1 / 3: norms(lengths)})
    assert NormHistory.from_json(known.to_json()) == known


# In a job


def world_of(
    tmp_path: Path,
    label: str = "world",
    name: str = "pdst",
    rounds: int = 4,
    size: int = 5,
    **changes: Any,  # noqa: ANN401
) -> World:
    """Devices of one level."""
    method = MethodConfig(name=name, levels=LEVELS, rotate_levels=False, r_int=1)
    world = build_world(tmp_path, label, method=method, rounds=rounds, **changes)
    for index in range(size):
        world.add(f"device-{index}", LEVEL, num_examples=10 + index)
    return world


def cohort_with(**changes: Any) -> Any:  # noqa: ANN401
    return replace(small_job(Path("nowhere")).cohort, **changes)


def absurd(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, (np.frombuffer(body, "<f4") * np.float32(1e3)).tobytes()


def verdicts(device: Device) -> list[Verdict]:
    return [receipt.verdict for receipt in device.receipts]


@pytest.mark.parametrize("name", ["pdst", "nst"])
def test_an_absurd_update_is_rejected_with_its_reason_and_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    world = world_of(tmp_path, name=name)
    attacker = world.devices[2]
    attacker.change = {3: absurd}
    if name == "nst":  # its mask follows the values, and is behind them
        attacker.change = {}
        world.when(lambda: len(attacker.receipts) == 2, lambda: setattr(attacker, "stride", 1e3))
    world.run()
    told = attacker.receipts[2]
    assert (told.round_id, told.verdict) == (3, Verdict.REJECTED)
    assert "a change of the values of length" in told.reason
    assert [one["updates"] for one in world.events("round_closed")][:3] == [5, 5, 4]
    assert all(set(verdicts(one)) == {Verdict.ACCEPTED} for one in world.devices if one != attacker)
    assert {one["device"] for one in world.events("rejected")} == {attacker.name}
    assert max(one.trained for one in world.checkpoint().norms.rounds[LEVEL][2]) < 1e3


def test_what_is_rejected_leaves_no_trace(tmp_path: Path) -> None:
    attacked, silent = world_of(tmp_path, "attacked"), world_of(tmp_path, "silent")
    attacked.devices[0].change = {3: absurd}
    silent.devices[0].silent_in = {3}
    attacked.run()
    silent.run()
    assert content_of(attacked) == content_of(silent)
    assert attacked.checkpoint().norms == silent.checkpoint().norms


def test_the_first_rounds_have_no_bound(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.devices[0].change = {1: absurd}
    world.run()
    assert world.events("rejected") == []


def test_a_job_may_do_without_the_bound(tmp_path: Path) -> None:
    world = world_of(tmp_path, cohort=cohort_with(bound_norms=False))
    world.devices[0].change = {3: absurd}
    world.run()
    assert world.events("rejected") == []
    assert world.checkpoint().norms == NormHistory()
    assert all(one["change_norm"] == {} for one in world.events("round_closed"))


@pytest.mark.parametrize("values", [ValuesConfig(up="f32", down="f32"), ValuesConfig()])
@pytest.mark.parametrize("name", ["pdst", "nst", "jmwst", "sparsyfed"])
def test_honest_devices_that_differ_are_not_rejected(
    tmp_path: Path, name: str, values: ValuesConfig
) -> None:
    """Ten times as far at one level as at the next, and twice as far as a neighbour."""
    method = MethodConfig(name=name, levels=LEVELS, sense_epochs=1, rotate_levels=False, r_int=2)
    world = build_world(tmp_path, method=method, rounds=8, values=values)
    for level, stride in zip(LEVELS, (1.0, 0.1, 0.01), strict=True):
        for index, factor in enumerate((0.5, 0.7, 1.0, 1.2, 1.5, 2.0)):
            device = world.add(f"at-{level}-{index}", level)
            device.stride = stride * factor
    world.run()
    assert world.events("rejected") == []
    last = world.events("round_closed")[-2]["change_norm"]
    assert set(last) == {"0.2", "0.1", "0.05"}
    known = world.checkpoint().norms
    assert all(known.bound(level) is not None for level in LEVELS)


def test_each_level_has_a_bound_of_its_own(tmp_path: Path) -> None:
    """What is ordinary at the largest level is out of all proportion at the smallest."""
    method = MethodConfig(name="pdst", levels=LEVELS[:2], rotate_levels=False)
    world = build_world(tmp_path, method=method, rounds=4)
    for index in range(10):
        world.add(f"device-{index}", LEVELS[index % 2]).stride = (10.0, 0.01)[index % 2]
    small = world.devices[1]
    world.when(lambda: len(small.receipts) == 2, lambda: setattr(small, "stride", 10.0))
    world.run()
    assert verdicts(small)[2] is Verdict.REJECTED
    assert {one["device"] for one in world.events("rejected")} == {small.name}


def test_a_job_whose_devices_all_move_further_goes_on(tmp_path: Path) -> None:
    """The round that nobody passes is offered again, with a bound twice as wide."""
    world = world_of(tmp_path)

    def stride() -> None:
        for device in world.devices:
            device.stride = 20.0

    world.when(lambda: len(world.events("round_closed")) == 2, stride)
    assert world.run().done
    assert 1 < len(world.events("round_repeated")) < 8
    assert [one["updates"] for one in world.events("round_closed")][3] == 5


def test_the_order_of_arrival_changes_no_verdict(tmp_path: Path) -> None:
    results = []
    for label in ("forwards", "backwards"):
        world = world_of(tmp_path, label)
        world.devices[1].change = {3: absurd}
        if label == "backwards":
            world.devices.reverse()
        world.run()
        rejected = [(one["device"], one["reason"]) for one in world.events("rejected")]
        results.append((content_of(world), world.checkpoint().norms, rejected))
    assert results[0] == results[1]
    assert len(results[0][2]) == 1


def test_a_kill_at_any_point_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attacked(label: object) -> World:
        world = world_of(
            tmp_path, str(label), rounds=3, size=4, values=ValuesConfig(up=I8, down=F16)
        )
        attacker = world.devices[0]
        world.when(
            lambda: any(one.round_id == 2 for one in attacker.receipts),
            lambda: setattr(attacker, "stride", 1e3),
        )
        return world

    calm = attacked("calm")
    with crash_points_at_the_disk(calm, monkeypatch):
        calm.run()
    expected, told = content_of(calm), calm.events("rejected")
    assert [one["device"] for one in told] == ["device-0"]
    for point in range(2, calm.crash_points, 5):
        world = attacked(point)
        world.crash_at, world.loses_power = point, point % 2 == 0
        with crash_points_at_the_disk(world, monkeypatch):
            with pytest.raises(Killed):
                world.run()
            world.run()
        assert content_of(world) == expected, point
        assert world.checkpoint().norms == calm.checkpoint().norms, point
        reasons = {(one["device"], one["reason"]) for one in world.events("rejected")}
        assert reasons == {(one["device"], one["reason"]) for one in told}, point


def test_a_checkpoint_that_is_made_again_has_the_same_norms(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.run()
    path, known = path_of(world.job.output, generations(world.job.output)[0]), world.checkpoint()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    world.run()
    assert path.read_bytes() == whole
    assert world.checkpoint().norms == known.norms


# How many examples an update counts as


def test_an_update_counts_as_many_examples_as_it_may(tmp_path: Path) -> None:
    boasts, modest = (
        world_of(tmp_path, label, size=3, cohort=cohort_with(max_examples=12))
        for label in ("boasts", "modest")
    )
    free = world_of(tmp_path, "free", size=3)
    for world, examples in ((boasts, 10**9), (modest, 12), (free, 10**9)):
        world.devices[1].num_examples = examples
        world.run()
    assert content_of(boasts) == content_of(modest)
    assert content_of(free) != content_of(modest)
    assert boasts.events("rejected") == []


@pytest.mark.parametrize("most", [0, -5])
def test_a_cap_of_no_example_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match=f"max_examples must be at least 1, got {most}"):
        cohort_with(max_examples=most)
