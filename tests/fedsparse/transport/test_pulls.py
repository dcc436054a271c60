"""Bodies on their way: what is asked for, what is on the disk, and what nobody can do to it."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path

import pytest
from channel_world import FAILURE, some_body
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.body import Body, Bytes
from fedsparse.errors import RemoteProtocolError
from fedsparse.transport.options import Limits
from fedsparse.transport.pace import Ceiling
from fedsparse.transport.partial import WORD, PartialFile
from fedsparse.transport.pull import FORGET_S, Pull, Pulls
from fedsparse.wire.frame import Absent

LIMITS = Limits()


def absent_of(body: Body, chunk_bytes: int) -> Absent:
    return Absent(digest=body.digest, size=body.size, chunk_bytes=chunk_bytes)


class Receiver:
    """Pulls over a folder, and a clock; `restart` is a new process."""

    def __init__(self, folder: Path, *, window: int = 4, ceiling: float = 1e9) -> None:
        self.now_s = 0.0
        self.folder, self.window, self.ceiling = folder, window, ceiling
        self.restart()

    def restart(self) -> None:
        self.pace = Ceiling(self.ceiling)
        self.pulls = Pulls(
            self.folder, LIMITS, window=lambda _: self.window, pace=self.pace,
            clock=lambda: self.now_s,
        )  # fmt: skip
        self.pulls.start()

    def accept(self, absent: Absent, peer: str = "pi") -> Pull:
        return self.pulls.accept(peer, FAILURE, absent)

    def give(self, body: Body, absent: Absent, index: int, peer: str = "pi") -> Pull | None:
        piece = body.read(absent.offset(index), absent.length(index))
        return self.pulls.add(peer, absent.digest, index, memoryview(piece))

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "spool")


bodies = st.binary(min_size=1, max_size=400)


@settings(max_examples=60, deadline=None)
@given(data=bodies, chunk_bytes=st.integers(1, 90), seed=st.integers(0, 999))
def test_a_body_is_put_together_in_whatever_order_and_across_whatever_restarts(
    data: bytes, chunk_bytes: int, seed: int
) -> None:
    """No chunk is asked for that is on the disk: across all restarts, each is asked for once."""
    draw, body = random.Random(seed), Bytes(data)
    absent = absent_of(body, chunk_bytes)
    with tempfile.TemporaryDirectory() as folder:
        receiver = Receiver(Path(folder), window=draw.randint(1, 9))
        pull = receiver.accept(absent)
        under_way: list[int] = []
        written: list[int] = []
        while pull.partial.missing:
            under_way += receiver.pulls.ask("pi", pull)
            assert not set(under_way) & set(written)
            assert len(under_way) <= receiver.window
            index = under_way.pop(draw.randrange(len(under_way)))
            receiver.give(body, absent, index)
            written.append(index)
            if draw.random() < 0.3:
                receiver.restart()
                pull, under_way = receiver.accept(absent), []
            assert pull.partial.missing == set(range(absent.count)) - set(written)
        assert sorted(written) == list(range(absent.count))
        file = receiver.pulls.finish("pi")
        assert file.path.read_bytes() == data
        assert (file.size, file.digest) == (body.size, body.digest)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=30, max_size=200), at=st.integers(0, 10**6), flip=st.integers(1, 255)
)
def test_a_damaged_byte_costs_the_chunk_that_it_is_in(data: bytes, at: int, flip: int) -> None:
    body, chunk_bytes = Bytes(data), 10
    absent = absent_of(body, chunk_bytes)
    with tempfile.TemporaryDirectory() as folder:
        receiver = Receiver(Path(folder))
        receiver.accept(absent)
        for index in range(absent.count - 1):
            receiver.give(body, absent, index)
        [path] = receiver.files()
        stored = bytearray(path.read_bytes())
        at %= len(stored)
        stored[at] ^= flip
        path.write_bytes(stored)
        receiver.restart()
        pull = receiver.accept(absent)
        in_table = at >= absent.size
        hit = (at - absent.size) // WORD.size if in_table else at // chunk_bytes
        assert pull.partial.missing <= {hit, absent.count - 1}
        if not in_table or (at - absent.size) % WORD.size < 4:  # the CRC-32
            assert pull.partial.missing == {hit, absent.count - 1}
        for index in sorted(pull.partial.missing):
            receiver.give(body, absent, index)
        assert receiver.pulls.finish("pi").path.read_bytes() == data


@pytest.mark.parametrize("size", [0, 1, 999, 1_001, 5_000])
def test_a_file_of_another_length_is_begun_anew(receiver: Receiver, size: int) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    receiver.accept(absent)
    receiver.give(body, absent, 3)
    [path] = receiver.files()
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"x"))
    receiver.restart()
    assert receiver.accept(absent).partial.missing == set(range(10))


def test_a_body_that_is_not_what_was_said_is_dropped_whole(receiver: Receiver) -> None:
    body, other = some_body(300), some_body(300, seed=2)
    absent = absent_of(body, 100)
    receiver.accept(absent)
    for index, source in enumerate((body, other, body)):
        receiver.give(source, absent, index)
    with pytest.raises(RemoteProtocolError, match="does not match its SHA-256"):
        receiver.pulls.finish("pi")
    assert receiver.files() == []
    assert receiver.accept(absent).partial.missing == {0, 1, 2}


def finished(receiver: Receiver, body: Body, absent: Absent) -> Path:
    receiver.accept(absent)
    for index in range(absent.count):
        receiver.give(body, absent, index)
    return receiver.pulls.finish("pi").path


def test_a_body_that_was_whole_when_the_process_died_is_not_sent_again(receiver: Receiver) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    finished(receiver, body, absent)
    receiver.restart()
    assert receiver.accept(absent).partial.missing == set()
    assert receiver.pulls.finish("pi").path.read_bytes() == body.read()


def test_a_whole_body_that_was_damaged_since_is_begun_anew(receiver: Receiver) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    finished(receiver, body, absent).write_bytes(bytes(1_000))
    receiver.restart()
    assert receiver.accept(absent).partial.missing == set(range(10))


@pytest.mark.parametrize("call", ["truncate", "replace"])
def test_whenever_the_process_dies_at_the_end_nothing_is_sent_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*{"truncate": (os, "truncate"), "replace": (Path, "replace")}[call], die)
        with pytest.raises(KeyboardInterrupt):
            finished(receiver, body, absent)
    receiver.restart()
    assert receiver.accept(absent).partial.missing == set()
    assert receiver.pulls.finish("pi").path.read_bytes() == body.read()


def test_another_body_does_not_take_away_one_that_was_delivered(receiver: Receiver) -> None:
    body = some_body(1_000)
    path = finished(receiver, body, absent_of(body, 100))
    receiver.accept(absent_of(some_body(500), 100))
    assert path.read_bytes() == body.read()


# The disk


def test_a_full_disk_is_said_before_anything_is_written(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(receiver.folder)
    nothing_free = os.statvfs_result((*real[:4], 100, *real[5:]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: nothing_free)
        with pytest.raises(OSError, match="free on the disk"):
            receiver.accept(absent_of(some_body(1_000), 100))
    assert receiver.files() == []
    assert receiver.accept(absent_of(some_body(1_000), 100)).partial.missing


@pytest.mark.parametrize("of", ["payload", "word"])
def test_a_disk_that_fills_up_on_the_way_costs_one_chunk(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """It takes a part of what is written, and complains about the rest."""
    body = some_body(1_000)
    absent = absent_of(body, 100)
    receiver.accept(absent)
    real, calls = os.pwrite, list[int]()

    def nearly_full(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        calls.append(offset)
        view = memoryview(data)
        if len(calls) == (1 if of == "payload" else 2):
            return real(descriptor, view[: len(view) // 2], offset)
        if len(calls) == (2 if of == "payload" else 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, view, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", nearly_full)
        with pytest.raises(OSError, match="No space"):
            receiver.give(body, absent, 4)
    receiver.restart()
    pull = receiver.accept(absent)
    assert pull.partial.missing == set(range(10))
    for index in range(10):
        receiver.give(body, absent, index)
    assert receiver.pulls.finish("pi").path.read_bytes() == body.read()


def test_a_disk_that_takes_little_at_a_time_gets_all(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = some_body(1_000)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda f, data, at: real(f, memoryview(data)[:7], at))
    assert finished(receiver, body, absent_of(body, 100)).read_bytes() == body.read()


def test_old_bodies_and_foreign_files_are_removed_at_the_start(receiver: Receiver) -> None:
    body = some_body(1_000)
    old, young = absent_of(body, 100), absent_of(body, 50)
    for peer, absent in (("old", old), ("young", young)):
        receiver.accept(absent, peer)
        receiver.give(body, absent, 0, peer)
    (receiver.folder / "old" / "core").write_bytes(b"what is this")
    [path] = (receiver.folder / "old").glob("*.part")
    before = path.stat().st_mtime - FORGET_S - 1
    os.utime(path, (before, before))
    receiver.restart()
    assert [path.parent.name for path in receiver.files()] == ["young"]
    assert receiver.accept(young, "young").partial.missing == set(range(1, 20))


# What peers can do


def test_nothing_is_written_that_nobody_accepted(receiver: Receiver) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    assert receiver.give(body, absent, 0) is None
    assert receiver.files() == []
    receiver.accept(absent)
    [path] = receiver.files()
    before = path.read_bytes()
    assert receiver.give(body, absent, 0, peer="nano") is None
    assert receiver.give(some_body(1_000, 2), absent_of(some_body(1_000, 2), 100), 0) is None
    assert receiver.files() == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 99), (0, 101), (0, 0), (9, 100), (9, 49), (10, 100), (10, 0), (999_999, 50), (-1, 100)],
)
def test_a_chunk_that_does_not_fit_is_refused(receiver: Receiver, index: int, size: int) -> None:
    body = some_body(950)
    absent = absent_of(body, 100)
    pull = receiver.accept(absent)
    [path] = receiver.files()
    before = path.read_bytes()
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        receiver.pulls.add("pi", absent.digest, index, memoryview(bytes(size)))
    assert path.read_bytes() == before
    assert pull.partial.missing == set(range(10))


def test_a_chunk_that_came_before_is_not_written_again(receiver: Receiver) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    receiver.accept(absent)
    receiver.give(body, absent, 3)
    receiver.pulls.add("pi", absent.digest, 3, memoryview(bytes(100)))
    for index in {*range(10)} - {3}:
        receiver.give(body, absent, index)
    assert receiver.pulls.finish("pi").path.read_bytes() == body.read()


def test_a_body_beyond_the_limit_is_refused_before_any_file_is_made(tmp_path: Path) -> None:
    pulls = Pulls(
        tmp_path, Limits(transfer_bytes=999), window=lambda _: 1, pace=Ceiling(1), clock=lambda: 0.0
    )
    with pytest.raises(RemoteProtocolError, match="a body of 1000 bytes, limit 999"):
        pulls.accept("pi", FAILURE, absent_of(some_body(1_000), 100))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_names_fit_the_disk(receiver: Receiver) -> None:
    body = some_body(300_000)
    absent = absent_of(body, 262_144)
    peer = "x" * 64
    receiver.accept(absent, peer)
    for index in (0, 1):
        receiver.give(body, absent, index, peer)
    assert receiver.pulls.finish(peer).verify()


def test_the_second_body_of_a_peer_ends_the_first(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "spool", ceiling=400)
    first, second = some_body(1_000), some_body(1_000, 2)
    one, two = absent_of(first, 100), absent_of(second, 100)
    receiver.pulls.ask("pi", receiver.accept(one))
    receiver.give(first, one, 0)
    assert receiver.pulls.ask("pi", receiver.accept(two)) == [0, 1, 2, 3]
    assert [path.name for path in receiver.files()] == [f"{two.digest}.100.part"]
    assert receiver.give(first, one, 1) is None
    assert [peer for peer, _ in receiver.pulls.open()] == ["pi"]


# When to ask


def test_more_is_asked_for_when_half_of_the_window_has_come(receiver: Receiver) -> None:
    body = some_body(2_000)
    absent = absent_of(body, 100)
    pull = receiver.accept(absent)
    assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]
    receiver.give(body, absent, 1)
    assert receiver.pulls.ask("pi", pull) == []
    receiver.give(body, absent, 0)
    assert receiver.pulls.ask("pi", pull) == [4, 5]


def test_more_is_asked_for_when_half_of_what_may_be_under_way_has_come(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "spool", window=100, ceiling=400)
    body = some_body(2_000)
    absent = absent_of(body, 100)
    pull = receiver.accept(absent)
    assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]
    receiver.give(body, absent, 1)
    assert receiver.pulls.ask("pi", pull) == []
    receiver.give(body, absent, 0)
    assert receiver.pulls.ask("pi", pull) == [4, 5]


def test_what_does_not_come_is_asked_for_ever_more_seldom_and_then_no_more(
    receiver: Receiver,
) -> None:
    absent = absent_of(some_body(1_000), 100)
    pull = receiver.accept(absent)
    asked_s = []
    while receiver.now_s < 1_000:
        if receiver.pulls.ask("pi", pull):
            asked_s.append(receiver.now_s)
        receiver.now_s += 1
        receiver.pulls.lapse()
        if not list(receiver.pulls.open()):
            break
    assert asked_s == [0, 5, 10, 20, 40, 80, 160]
    assert receiver.now_s == LIMITS.idle_s
    assert receiver.pace.is_low
    assert len(receiver.files()) == 1  # for the next head


def test_a_chunk_that_comes_ends_the_waiting(receiver: Receiver) -> None:
    body = some_body(1_000)
    absent = absent_of(body, 100)
    pull = receiver.accept(absent)
    receiver.pulls.ask("pi", pull)
    for now_s in (5.0, 10.0, 20.0):
        receiver.now_s = now_s
        receiver.pulls.lapse()
        assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]
    receiver.give(body, absent, 0)
    receiver.now_s = 24.9
    receiver.pulls.lapse()
    assert pull.asked == {1, 2, 3}
    receiver.now_s = 25.0
    receiver.pulls.lapse()
    assert receiver.pulls.ask("pi", pull) == [1, 2, 3, 4]


def test_after_a_long_time_away_chunks_are_asked_for_once_and_not_at_every_look(
    receiver: Receiver,
) -> None:
    pull = receiver.accept(absent_of(some_body(1_000), 100))
    receiver.pulls.ask("pi", pull)
    receiver.now_s = 100.0
    receiver.pulls.lapse(at_once=True)
    assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]
    for now_s in (101.0, 102.0, 104.9):
        receiver.now_s = now_s
        receiver.pulls.lapse()
        assert receiver.pulls.ask("pi", pull) == []
    receiver.now_s = 105.0
    receiver.pulls.lapse()
    assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]


def test_a_head_that_comes_again_from_a_sender_that_was_silent_is_answered_at_once(
    receiver: Receiver,
) -> None:
    absent = absent_of(some_body(1_000), 100)
    pull = receiver.accept(absent)
    receiver.pulls.ask("pi", pull)
    assert receiver.accept(absent) is pull
    assert receiver.pulls.ask("pi", pull) == []  # they are on their way
    receiver.now_s = 5.0
    receiver.pulls.lapse()
    receiver.pulls.ask("pi", pull)
    receiver.now_s = 6.0
    assert receiver.accept(absent) is pull
    assert receiver.pulls.ask("pi", pull) == [0, 1, 2, 3]


# Many peers


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), peers=st.integers(1, 6), ceiling=st.integers(1, 3_000))
def test_no_more_than_the_ceiling_is_asked_of_all_together_and_all_come(
    seed: int, peers: int, ceiling: int
) -> None:
    draw = random.Random(seed)
    bodies = {f"p{number}": some_body(draw.randint(1, 900), number) for number in range(peers)}
    with tempfile.TemporaryDirectory() as folder:
        receiver = Receiver(Path(folder), ceiling=ceiling)
        absents = {peer: absent_of(body, 100) for peer, body in bodies.items()}
        for peer, absent in absents.items():
            receiver.accept(absent, peer)
        under_way: list[tuple[str, int]] = []
        left = set(bodies)
        while left:
            for peer, pull in receiver.pulls.open():
                under_way += [(peer, index) for index in receiver.pulls.ask(peer, pull)]
            size = sum(absents[peer].length(index) for peer, index in under_way)
            assert size <= ceiling or len(under_way) == 1
            peer, index = under_way.pop(draw.randrange(len(under_way)))
            pull_or_none = receiver.give(bodies[peer], absents[peer], index, peer)
            assert pull_or_none is not None
            if not pull_or_none.partial.missing:
                left.discard(peer)
                assert receiver.pulls.finish(peer).path.read_bytes() == bodies[peer].read()


def test_a_dead_peer_does_not_hold_the_ceiling(tmp_path: Path) -> None:
    """What it was asked for counts as lost after five seconds; then others have their turn."""
    receiver = Receiver(tmp_path, window=4, ceiling=400)
    body = some_body(1_000)
    absent = absent_of(body, 100)
    dead = receiver.accept(absent, "dead")
    assert len(receiver.pulls.ask("dead", dead)) == 4
    alive = receiver.accept(absent, "alive")
    assert receiver.pulls.ask("alive", alive) == []
    receiver.now_s = 5.0
    receiver.pulls.lapse()
    assert [peer for peer, _ in receiver.pulls.open()] == ["alive", "dead"]
    assert len(receiver.pulls.ask("alive", alive)) == 4
    assert receiver.pulls.ask("dead", dead) == []


def test_the_file_of_a_body_is_opened_for_each_write_only(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    body = some_body(1_000)
    absent = absent_of(body, 100)
    partials = [PartialFile(tmp_path / f"{number}.part", absent) for number in range(50)]
    for partial in partials:
        partial.write(0, body.read(0, 100))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
