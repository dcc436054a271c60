"""An aggregator that is killed at any point goes on from its output folder to the same result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from job_world import (
    LEVELS,
    Device,
    Killed,
    World,
    build_world,
    content_of,
    crash_points_at_the_disk,
    kill,
    small_store,
)
from sqlalchemy import update

from aggregator.checkpoint import generations, path_of
from aggregator.job import MethodConfig
from aggregator.spool import SEGMENT, Spool
from aggregator.store.schema import rounds
from fedsparse.errors import ConfigError, RemoteProtocolError
from fedsparse.rounds.client import ClientRounds, Effect
from fedsparse.wire.messages import Offer, Stage, Update, Verdict


def small_world(tmp_path: Path, label: object, name: str) -> World:
    method = MethodConfig(name=name, levels=LEVELS[:2], sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(tmp_path, label, method=method, rounds=3)
    world.add("big", 0.2, num_examples=3)
    world.add("small", 0.1, num_examples=11)
    return world


def has_receipt(device: Device) -> bool:
    """For its update of round 1."""
    return any(receipt.round_id == 1 for receipt in device.receipts)


def closing_time(world: World) -> list[float]:
    """When the first round closes, as soon as it has."""
    times: list[float] = []
    world.when(lambda: bool(world.events("round_closed")), lambda: times.append(world.clock()))
    return times


@pytest.mark.parametrize(("name", "turns"), [("spdst", (1, 2)), ("nst", (3, 0))])
def test_a_kill_at_any_point_does_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, turns: tuple[int, int]
) -> None:
    """Of the process and of the whole machine in turn; the two methods share the points."""
    calm = small_world(tmp_path, "calm", name)
    with crash_points_at_the_disk(calm, monkeypatch):
        calm.run()
    assert calm.crash_points > 40
    expected = content_of(calm)
    for point in (one for one in range(1, calm.crash_points + 1) if one % 4 in turns):
        world = small_world(tmp_path, f"killed-{point}", name)
        world.crash_at, world.loses_power = point, point % 2 == 0
        with crash_points_at_the_disk(world, monkeypatch):
            with pytest.raises(Killed):
                world.run()
            aggregator = world.run()
        assert aggregator.done, point
        assert content_of(world) == expected, point
        # What was acknowledged is never asked for again.
        assert not any(device.trained_again for device in world.devices), point


@pytest.mark.parametrize("name", ["spdst", "nst"])
def test_devices_that_are_gone_when_the_aggregator_comes_back_are_not_needed_twice(
    tmp_path: Path, name: str
) -> None:
    """What was acknowledged is on the disk: its device has nothing left to send."""
    world = small_world(tmp_path, "world", name)
    last = world.devices[-1]
    last.silent_in = {1}

    world.when(lambda: has_receipt(world.devices[0]), kill)
    with pytest.raises(Killed):
        world.run()
    last.silent_in = set()
    last.kill()
    last.begin()
    world.run()
    calm = small_world(tmp_path, "calm", name)
    calm.run()
    assert content_of(world) == content_of(calm)
    first_device = [task for task in world.devices[0].tasks if task.round_id == 1]
    assert len(first_device) == 1
    assert [r.verdict for r in world.devices[0].receipts if r.round_id == 1] == [Verdict.ACCEPTED]


@pytest.mark.parametrize("away", [(8, 60), (20, 80), (45, 90)])
def test_a_broker_that_is_away_until_no_more_is_queued_for_it_ends_no_job(
    tmp_path: Path, away: tuple[int, int]
) -> None:
    """What could not be sent is asked for again once the broker is there."""

    def leave() -> None:
        world.broker.stop()
        world.queue_is_full = True

    def drain() -> None:
        world.queue_is_full = False

    gone_at, back_at = away
    world = small_world(tmp_path, "world", "spdst")
    world.at_tick[gone_at] = leave
    world.at_tick[back_at] = world.broker.restart
    world.at_tick[back_at + 5] = drain  # only then, though the connection is there
    world.run()
    calm = small_world(tmp_path, "calm", "spdst")
    calm.run()
    assert content_of(world) == content_of(calm)


def test_an_offer_that_could_not_be_sent_is_sent_again(tmp_path: Path) -> None:
    """The connection stays: nothing but the aggregator itself brings the round to the devices."""
    world = small_world(tmp_path, "world", "pdst")

    def fill() -> None:
        world.queue_is_full = True
        world.at_tick[world.ticks + 60] = drain

    def drain() -> None:
        assert len(world.events("round_opened")) == 2  # it could not be sent
        world.queue_is_full = False

    world.when(lambda: len(world.events("task_sent")) == 2, fill)
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [2, 2, 2, 2]
    calm = small_world(tmp_path, "calm", "pdst")
    calm.run()
    assert content_of(world) == content_of(calm)


def test_a_finished_job_that_is_started_again_is_still_finished(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "spdst")
    world.run()
    before = content_of(world)
    aggregator = world.run()
    assert aggregator.done
    assert aggregator.trained_levels == [0.2, 0.1]
    assert content_of(world) == before
    assert world.checkpoint().stage is Stage.DONE


def test_a_job_that_starts_afresh_is_answered_by_devices_that_knew_it(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.run()
    for device in world.devices:  # as if they had seen nothing but the first round
        device.rounds.offer = None
    again = replace(world.job, output=world.folder / "again")
    world.job = again
    world.at_tick[world.ticks + 25] = kill
    with pytest.raises(Killed):
        world.run()
    world.job = replace(again, output=world.folder / "third")
    assert world.run().done


def test_another_jobs_folder_is_refused(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.run()
    job = world.job
    world.job = replace(job, name="other")
    with pytest.raises(ConfigError, match=r"belongs to the job 'job'.*choose another `output`"):
        world.run()
    world.job = replace(job, method=replace(job.method, name="nst"))
    with pytest.raises(ConfigError, match="pdst"):
        world.run()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["spdst", "nst", "ssfl"])
@pytest.mark.parametrize("round_id", [1, 2, 3])
def test_a_damaged_checkpoint_is_made_again_from_the_one_before(
    tmp_path: Path, name: str, round_id: int
) -> None:
    """Killed in the midst of a round, whose checkpoint is damaged meanwhile."""
    calm = small_world(tmp_path, "calm", name)
    calm.run()
    world = small_world(tmp_path, "world", name)
    world.when(lambda: any(r.round_id == round_id for r in world.devices[0].receipts), kill)
    world.devices[1].silent_in = {round_id}
    with pytest.raises(Killed):
        world.run()
    world.devices[1].silent_in = set()
    world.devices[1].kill()
    world.devices[1].begin()
    begun = path_of(world.job.output, round_id)
    whole = begun.read_bytes()
    damage(begun)
    if round_id == 1 and name == "nst":  # it is the first one: there is none before
        with pytest.raises(ConfigError, match=r"1.npz is damaged.*move it away"):
            world.run()
        return
    world.run()
    assert content_of(world) == content_of(calm)
    told = world.events("checkpoint_damaged")
    assert [(one["round"], one["made_again"], one["updates_lost"]) for one in told] == [
        (round_id, True, [])
    ]
    assert not any(device.trained_again for device in world.devices)
    assert not begun.exists() or begun.read_bytes() == whole


def test_a_last_checkpoint_that_is_damaged_is_made_again_to_the_bit(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "spdst")
    world.run()
    (newest, before) = generations(world.job.output)
    path, expected = path_of(world.job.output, newest), content_of(world)
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 23)):
        data = bytearray(whole)
        data[position] ^= 0xFF
        path.write_bytes(data)
        assert world.checkpoint().round_id == before
        assert world.run().done
        assert content_of(world) == expected
        assert path.read_bytes() == whole


def test_a_job_goes_on_from_an_older_checkpoint_where_the_updates_are_damaged_too(
    tmp_path: Path,
) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.run()
    output = world.job.output
    newest, before = generations(output)
    damage(path_of(output, newest))
    (output / "spool" / str(before) / SEGMENT).write_bytes(b"")
    for device in world.devices:
        device.kill()
        device.begin()
    world.run()
    (told,) = world.events("checkpoint_damaged")
    assert (told["made_again"], told["updates_lost"]) == (False, ["big", "small"])
    assert [event["round"] for event in world.events("round_closed")] == [1, 2, 3, 4, 4]
    calm = small_world(tmp_path, "calm", "pdst")
    calm.run()
    assert content_of(world) == content_of(calm)


def test_two_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.run()
    for round_id in generations(world.job.output):
        damage(path_of(world.job.output, round_id))
    with pytest.raises(ConfigError, match=r"\d.npz is damaged.*move it away"):
        world.run()


def test_an_update_that_was_damaged_on_the_disk_is_asked_for_again(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.devices[1].silent_in = {1}
    world.when(lambda: has_receipt(world.devices[0]), kill)
    with pytest.raises(Killed):
        world.run()
    damage(world.job.output / "spool" / "1" / SEGMENT)
    world.devices[1].silent_in = set()
    for device in world.devices:
        device.kill()
        device.begin()
    world.run()
    told = world.events("update_damaged")
    assert [(event["round"], event["device"]) for event in told] == [(1, "big")]
    calm = small_world(tmp_path, "calm", "pdst")
    calm.run()
    assert content_of(world) == content_of(calm)


def test_a_round_goes_on_without_an_update_that_is_damaged_when_it_is_folded(
    tmp_path: Path,
) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.add("third", 0.1)

    world.devices[1].silent_in = {1}
    segment = world.job.output / "spool" / "1" / SEGMENT
    world.when(lambda: has_receipt(world.devices[0]), lambda: damage(segment))
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [1, 3, 3, 3]
    assert [event["device"] for event in world.events("update_damaged")] == ["big"]


@pytest.mark.parametrize(("name", "round_id"), [("spdst", 0), ("ssfl", 0), ("pdst", 1)])
def test_a_round_of_which_nothing_can_be_read_is_offered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, round_id: int
) -> None:
    world = small_world(tmp_path, "world", name)
    load, damaged = Spool.load, set[str]()

    def damaged_once(spool: Spool, device: str, origin: int | None = None) -> tuple[Update, bytes]:
        update, body = load(spool, device, origin)
        if update.round_id != round_id or device in damaged:
            return update, body
        damaged.add(device)
        raise RemoteProtocolError("its checksum is wrong")

    monkeypatch.setattr(Spool, "load", damaged_once)
    world.run()
    assert damaged
    assert len(world.events("round_repeated")) == 1
    assert {event["device"] for event in world.events("update_damaged")} == damaged
    assert all(event["updates"] > 0 for event in world.events("round_closed"))


def test_a_restarted_aggregator_keeps_the_deadline_of_the_round(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.devices[1].silent_in = {1}
    opened_s: list[float] = []
    world.when(lambda: bool(world.events("task_sent")), lambda: opened_s.append(world.clock()))
    closed_s = closing_time(world)
    for pause_s in (4.0, 8.0):  # killed twice; a round lasts ten seconds at most
        world.when(lambda late_s=pause_s: opened_s and world.clock() >= opened_s[0] + late_s, kill)
    world.run_through_crashes()
    assert [event["updates"] for event in world.events("round_closed")] == [1, 2, 2, 2]
    assert closed_s[0] - opened_s[0] == pytest.approx(10.0, abs=0.2)


def test_devices_that_waited_for_the_aggregator_have_time_to_deliver(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.when(lambda: bool(world.events("task_sent")), kill)
    with pytest.raises(Killed):
        world.run()
    world.clock.now_s += 100.0  # the deadline has passed long ago
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [2, 2, 2, 2]


def test_the_offer_of_a_round_that_goes_on_says_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.devices[1].silent_in = {1}
    world.when(lambda: has_receipt(world.devices[0]), kill)
    with pytest.raises(Killed):
        world.run()
    world.clock.now_s += 6.0
    heard: list[Offer] = []
    perform = ClientRounds.offered

    def hear(rounds: ClientRounds, offer: Offer) -> list[Effect]:
        heard.append(offer)
        return perform(rounds, offer)

    monkeypatch.setattr(ClientRounds, "offered", hear)
    world.run()
    again = [offer.seconds_left for offer in heard if (offer.round_id, offer.attempt) == (1, 1)]
    assert again
    assert all(2.0 < left_s < 4.5 for left_s in again)


def test_a_calendar_that_jumps_lengthens_no_round(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.devices[1].silent_in = {1}
    world.when(lambda: bool(world.events("task_sent")), kill)
    with pytest.raises(Killed):
        world.run()
    began_s, closed_s = world.clock(), closing_time(world)
    with small_store(world.job.output) as store, store.writing() as db:
        db.execute(update(rounds).values(closes_ms=rounds.c.closes_ms + 10**9))
    world.run()
    assert closed_s[0] - began_s == pytest.approx(10.0, abs=0.3)


@pytest.mark.parametrize("has_backup", [True, False])
def test_a_damaged_store_costs_the_round_only(tmp_path: Path, has_backup: bool) -> None:
    world = small_world(tmp_path, "world", "pdst")
    world.when(lambda: any(r.round_id == 2 for r in world.devices[0].receipts), kill)
    with pytest.raises(Killed):
        world.run()
    for path in world.job.output.glob("fleet.db*"):
        if has_backup and path.name == "fleet.db":
            path.write_bytes(b"no database at all" * 500)
        elif path.name != "fleet.db.backup" or not has_backup:
            path.unlink()
    world.run()
    calm = small_world(tmp_path, "calm", "pdst")
    calm.run()
    assert content_of(world) == content_of(calm)


def test_a_restarted_aggregator_still_knows_how_many_examples_a_device_has(tmp_path: Path) -> None:
    def boast(update: Update, body: bytes) -> tuple[Update, bytes]:
        return replace(update, num_examples=update.num_examples + 1), body

    world = small_world(tmp_path, "world", "pdst")
    world.devices[1].change = {1: boast}
    world.devices[1].silent_in = {1}
    world.when(lambda: has_receipt(world.devices[0]), kill)
    with pytest.raises(Killed):
        world.run()
    silent = world.devices[1]
    silent.silent_in = set()
    task = next(task for task in silent.tasks if task.round_id == 1)
    silent.train(task, silent.bodies[silent.tasks.index(task)])  # it was at work all the time
    world.run()
    told = [event["reason"] for event in world.events("rejected")]
    assert told[0] == "12 examples, though the device has 11"


def test_the_disk_does_not_fill_up_with_old_rounds(tmp_path: Path) -> None:
    world = small_world(tmp_path, "world", "nst")
    world.run()
    output = world.job.output
    assert [folder.name for folder in (output / "spool").iterdir()] == ["4"]
    assert generations(output) == [5, 4]
    assert len(list((output / "own-masks").iterdir())) <= 2 * len(world.devices)
    assert list((output / "incoming").iterdir()) == []


def test_a_device_may_have_dots_in_its_name(tmp_path: Path) -> None:
    world = build_world(tmp_path, method=MethodConfig(name="pdst", levels=LEVELS))
    world.add("a.b.update", 0.2)
    world.add("a.b", 0.1)
    world.run()
    assert [event["updates"] for event in world.events("round_closed")] == [2, 2, 2, 2]
