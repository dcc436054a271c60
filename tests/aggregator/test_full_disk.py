"""A gateway whose disk is full goes on serving: it says so, keeps no receipt, and catches up."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_world import LEVELS, World, build_world, content_of
from sqlalchemy import Connection

from aggregator.disk import RESERVE, DiskWatch, Reserve
from aggregator.events import EventLog
from aggregator.folding import fold_round
from aggregator.job import MethodConfig
from aggregator.store.database import Store
from fedsparse.errors import StoreError

Writing = Callable[[Store], contextlib.AbstractContextManager[Connection]]


class Disk:
    """Is full when told to be: what waits for it fails, as writing does.

    Attributes:
        full: whether it is.
        but_for: a file that takes up the last room; without it there is some.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.but_for: Path | None = None
        for name in ("fsync", "fdatasync", "posix_fallocate"):
            monkeypatch.setattr(os, name, self.refusing())
        monkeypatch.setattr(Store, "writing", self.refusing_store(Store.writing))

    def check(self) -> None:
        if self.full and (self.but_for is None or self.but_for.exists()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refusing(self) -> Callable[..., None]:
        return lambda *_: self.check()

    def refusing_store(self, write: Writing) -> Writing:
        @contextlib.contextmanager
        def writing(store: Store) -> Iterator[Connection]:
            try:
                self.check()
            except OSError as error:
                raise StoreError(str(error)) from error
            with write(store) as db:
                yield db

        return writing


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def small_world(tmp_path: Path, label: str, name: str) -> World:
    method = MethodConfig(name=name, levels=LEVELS[:2], sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(tmp_path, label, method=method, rounds=3)
    world.add("big", 0.2, num_examples=3)
    world.add("small", 0.1, num_examples=11)
    return world


@pytest.mark.parametrize("name", ["spdst", "nst"])
@pytest.mark.parametrize("share", [n / 16 for n in range(16)])
def test_a_disk_that_is_full_for_a_while_changes_nothing(
    tmp_path: Path, disk: Disk, name: str, share: float
) -> None:
    calm = small_world(tmp_path, "calm", name)
    calm.run()
    world = small_world(tmp_path, "world", name)
    full_at = 1 + int(share * calm.ticks)
    world.at_tick[full_at] = lambda: setattr(disk, "full", True)
    world.at_tick[full_at + 130] = lambda: setattr(disk, "full", False)  # for 6.5 s
    world.run()
    assert content_of(world) == content_of(calm)
    assert len(world.events("disk_full")) == 1
    assert len(world.events("disk_has_room")) == 1
    assert "No space left" in world.events("disk_full")[0]["reason"]
    assert not any(device.trained_again for device in world.devices)


def test_an_update_that_could_not_be_stored_has_no_receipt(tmp_path: Path, disk: Disk) -> None:
    world = small_world(tmp_path, "world", "pdst")
    told: list[int] = []
    world.when(lambda: bool(world.events("task_sent")), lambda: setattr(disk, "full", True))

    def look() -> None:
        told.extend(len(device.receipts) for device in world.devices)
        assert world.events("disk_full")
        disk.full = False

    world.when(lambda: world.clock() > 1_006.0, look)
    world.run()
    assert told == [0, 0]
    assert [event["updates"] for event in world.events("round_closed")] == [2, 2, 2, 2]


def test_the_reserve_lets_a_round_end(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room for the checkpoint is there before it is needed; the round counts once."""
    calm = small_world(tmp_path, "calm", "pdst")
    calm.run()
    world = small_world(tmp_path, "world", "pdst")
    disk.but_for = world.job.output / RESERVE

    def fill_and_fold(*arguments: Any) -> Any:  # noqa: ANN401
        disk.full = True
        return fold_round(*arguments)

    monkeypatch.setattr("aggregator.rounds.fold_round", fill_and_fold)
    closed_s: list[float] = []
    world.when(lambda: bool(world.events("round_closed")), lambda: closed_s.append(world.clock()))
    world.when(lambda: world.clock() > 1_020.0, lambda: setattr(disk, "but_for", Path("nowhere")))
    world.run()
    assert closed_s[0] < 1_010.0
    assert len(world.events("disk_full")) == 1
    assert content_of(world) == content_of(calm)
    assert not any(device.trained_again for device in world.devices)


def test_the_reserve_takes_the_room_that_it_says(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, 3 * 1024 * 1024)
    reserve.refill()
    reserve.refill()
    taken = (tmp_path / RESERVE).stat()
    assert (taken.st_size, taken.st_blocks * 512 >= taken.st_size) == (3 * 1024 * 1024, True)
    assert reserve.release()
    assert not reserve.release()


def test_the_diary_leaves_out_what_a_full_disk_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "events.jsonl", os.write

    def half(file: int, data: bytes) -> int:
        if len(data) > 20:
            return write(file, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with EventLog(path, clock=lambda: 0.0) as events:
        events.write("first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            events.write("second" * 3)
            events.write("third" * 3)
        events.write("fourth")
    told = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(one["event"], one.get("number")) for one in told] == [
        ("first", None), ("fourth", None), ("events_left_out", 2),
    ]  # fmt: skip


def test_a_line_that_a_crash_has_torn_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event":"first"}\n{"event":"sec')
    with EventLog(path, clock=lambda: 0.0) as events:
        events.write("third")
    told = [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert told == ["first", "third"]


def test_a_disk_that_fails_is_told_of_once_and_tried_every_five_seconds(
    tmp_path: Path, disk: Disk
) -> None:
    with EventLog(tmp_path / "events.jsonl", clock=lambda: 0.0) as events:
        watch = DiskWatch(Reserve(tmp_path, 0), events)
        disk.full = True
        watch.failed(OSError("no room"), 100.0, vital=False)
        watch.failed(OSError("no room"), 101.0, vital=False)
        assert (tmp_path / RESERVE).exists()
        assert watch.retry_at_s == 106.0
        watch.failed(OSError("no room"), 102.0)
        assert not (tmp_path / RESERVE).exists()
        assert watch.retry_at_s == 102.0  # the room of the reserve may do
        assert not watch.try_again(102.0, behind=True)
        assert not watch.try_again(107.0, behind=False)
        disk.full = False
        assert watch.try_again(112.0, behind=False)
        assert not watch.failing
    text = (tmp_path / "events.jsonl").read_text(encoding="utf-8")
    assert text.count("disk_full") == text.count("disk_has_room") == 1
