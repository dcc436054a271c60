"""The spool on disk: batches, torn ends, damage anywhere, bodies in files, a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.segment import MARK, PROLOGUE
from aggregator.spool import SEGMENT, Spool
from fedsparse.body import Bytes, File
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.messages import Part, Stage, Update

UPDATE = Update(
    job="job",
    round_id=7,
    stage=Stage.TRAIN,
    level=0.1,
    num_examples=5,
    mask_digest="ab" * 32,
    parts=(Part(name="values", codec="f32", size=40),),
    loss=0.5,
)


def body_of(device: str) -> bytes:
    return (device.encode() * 40)[:40]


def filled(root: Path, *batches: str) -> Spool:
    """A spool with a batch for each text, of a device for each letter."""
    spool = Spool(root)
    spool.open(7)
    for batch in batches:
        for device in batch:
            spool.add(device, UPDATE, Bytes(body_of(device)))
        spool.commit()
    return spool


def reopened(root: Path) -> tuple[Spool, list[str]]:
    """The spool as another process finds it, and whose updates it calls damaged."""
    spool = Spool(root)
    return spool, [damage.device for damage in spool.open(7)]


def devices(spool: Spool) -> str:
    for device in spool.digests:
        assert spool.load(device) == (UPDATE, body_of(device))
    return "".join(spool.digests)


def test_what_was_committed_is_found_again(tmp_path: Path) -> None:
    filled(tmp_path, "ca", "b")
    spool, damaged = reopened(tmp_path)
    assert (devices(spool), damaged) == ("abc", [])
    assert spool.digests["a"] == Bytes(body_of("a")).digest


def test_nothing_is_stored_before_the_commit(tmp_path: Path) -> None:
    spool = filled(tmp_path, "a")
    spool.add("b", UPDATE, Bytes(body_of("b")))
    assert (spool.waiting, spool.waiting_bytes, "b" in spool.digests) == (1, 40, False)
    assert devices(reopened(tmp_path)[0]) == "a"


def test_a_batch_costs_one_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, "a")
    waits: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: waits.append("data"))
    monkeypatch.setattr(os, "fsync", lambda _: waits.append("all"))
    for device in "bcdefgh":
        spool.add(device, UPDATE, Bytes(body_of(device)))
    spool.commit()
    assert waits == ["data"]


def test_a_later_update_of_a_device_replaces_the_one_before(tmp_path: Path) -> None:
    spool = filled(tmp_path, "ab")
    spool.add("a", UPDATE, Bytes(b"another" + bytes(33)))
    spool.commit()
    for found in (spool, reopened(tmp_path)[0]):
        assert found.load("a")[1].startswith(b"another")
        assert list(found.digests) == ["a", "b"]


def test_an_update_of_an_earlier_round_is_kept_apart(tmp_path: Path) -> None:
    spool = filled(tmp_path, "ab")
    late = replace(UPDATE, round_id=6)
    spool.add("a", late, Bytes(b"late" + bytes(36)))
    spool.commit()
    for found in (spool, reopened(tmp_path)[0]):
        assert found.keys == [("a", 6), ("a", 7), ("b", 7)]
        assert list(found.digests) == ["a", "b"]
        assert found.load("a", 6) == (late, b"late" + bytes(36))
        assert found.load("a") == (UPDATE, body_of("a"))
        assert found.body("a", 6).read(2, 3) == b"te\0"


def test_a_round_that_begins_has_nothing_stored(tmp_path: Path) -> None:
    spool = filled(tmp_path, "ab")
    spool.begin(7)
    assert spool.digests == {}
    spool.add("c", UPDATE, Bytes(body_of("c")))
    spool.commit()
    assert devices(reopened(tmp_path)[0]) == "c"


def test_what_could_not_be_removed_is_void_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, "abc", "de")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        spool.begin(7)
    spool.add("f", UPDATE, Bytes(body_of("f")))
    spool.commit()
    again, damaged = reopened(tmp_path)
    assert (devices(again), damaged) == ("f", [])


def test_other_rounds_are_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for round_id in (5, 6, 7):
        spool.begin(round_id)
        spool.add("a", replace(UPDATE, round_id=round_id), Bytes(body_of("a")))
        spool.commit()
    spool.clear(but=(6, 7))
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["6", "7"]


# What a crash leaves


def test_a_torn_end_is_cut_at_every_length(tmp_path: Path) -> None:
    """Of a batch that was not committed nobody was told: it is no damage."""
    filled(tmp_path / "whole", "ab")
    committed = (tmp_path / "whole" / "7" / SEGMENT).stat().st_size
    filled(tmp_path / "whole", "cd")
    data = (tmp_path / "whole" / "7" / SEGMENT).read_bytes()
    for length in range(committed, len(data)):
        root = tmp_path / f"cut-{length}"
        (root / "7").mkdir(parents=True)
        (root / "7" / SEGMENT).write_bytes(data[:length])
        spool, damaged = reopened(root)
        assert damaged == [], length
        assert devices(spool) in ("ab", "abc", "abcd"), length
        spool.add("e", UPDATE, Bytes(body_of("e")))
        spool.commit()
        again, damaged = reopened(root)
        assert (devices(again)[-1], damaged) == ("e", []), length


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_pages_that_never_reached_the_disk_are_no_damage(
    tmp_path: Path, draw: st.DataObject
) -> None:
    """After a power cut the end may have its length, and zeros in place of what was written."""
    root = tmp_path / "spool"
    shutil.rmtree(root, ignore_errors=True)
    path = root / "7" / SEGMENT
    filled(root, "ab")
    committed = path.stat().st_size
    filled(root, "cd")
    data = bytearray(path.read_bytes())
    start = draw.draw(st.integers(committed, len(data) - 1))
    data[start : draw.draw(st.integers(start + 1, len(data)))] = b""
    data += bytes(draw.draw(st.integers(0, 60)))
    path.write_bytes(data)
    spool, damaged = reopened(root)
    assert damaged == []
    assert set("ab") <= set(devices(spool)) <= set("abcd")


# What a disk damages


def test_a_flipped_bit_anywhere_costs_one_update_at_most_and_is_told(tmp_path: Path) -> None:
    filled(tmp_path / "whole", "ab", "c")
    data = (tmp_path / "whole" / "7" / SEGMENT).read_bytes()
    for position in range(len(data)):
        root = tmp_path / "damaged"
        shutil.rmtree(root, ignore_errors=True)
        (root / "7").mkdir(parents=True)
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        (root / "7" / SEGMENT).write_bytes(changed)
        spool, damaged = reopened(root)
        left, lost = devices(spool), int(is_record(data, position))
        assert (len(damaged), len(left)) == (lost, 3 - lost), position
        again, damaged = reopened(root)  # it is told once
        assert (devices(again), damaged) == (left, []), position


def is_record(data: bytes, position: int) -> bool:
    """Whether a position is not in one of the marks."""
    marks = [at for at in range(len(data)) if data.startswith(MARK, at)]
    return not any(at <= position < at + PROLOGUE.size + 8 for at in marks)


def test_damage_names_its_device_where_the_name_is_left(tmp_path: Path) -> None:
    filled(tmp_path, "ab", "c")
    path = tmp_path / "7" / SEGMENT
    data = bytearray(path.read_bytes())
    data[data.index(body_of("b")) + 3] ^= 1
    data[4] ^= 1  # the length of the first record
    path.write_bytes(data)
    spool, damaged = reopened(tmp_path)
    assert (devices(spool), damaged) == ("c", ["a", "b"])


def test_a_damaged_update_is_not_read(tmp_path: Path) -> None:
    spool = filled(tmp_path, "ab")
    path = tmp_path / "7" / SEGMENT
    data = bytearray(path.read_bytes())
    data[data.index(body_of("b"))] ^= 1
    path.write_bytes(data)
    with pytest.raises(RemoteProtocolError, match="checksum"):
        spool.load("b")


# Bodies in files


def file_of(path: Path, content: bytes) -> File:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return File(path=path, size=len(content), digest=Bytes(content).digest)


def test_the_file_of_a_body_is_moved_and_not_copied(tmp_path: Path) -> None:
    spool = filled(tmp_path / "spool", "a")
    body = file_of(tmp_path / "incoming" / "x", body_of("b"))
    number = body.path.stat().st_ino
    spool.add("b", UPDATE, body)
    assert (body.path.exists(), spool.waiting_bytes) == (False, 0)
    spool.commit()
    (stored,) = (tmp_path / "spool" / "7").glob("*.body")
    assert stored.stat().st_ino == number
    again, damaged = reopened(tmp_path / "spool")
    assert (devices(again), damaged) == ("ab", [])


def test_a_body_of_a_batch_that_was_never_stored_is_removed(tmp_path: Path) -> None:
    spool = filled(tmp_path / "spool", "a")
    spool.add("b", UPDATE, file_of(tmp_path / "incoming" / "x", body_of("b")))
    again, damaged = reopened(tmp_path / "spool")
    assert (devices(again), damaged) == ("a", [])
    assert list((tmp_path / "spool" / "7").glob("*.body")) == []


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_damaged_file_of_a_body_is_told(tmp_path: Path, is_gone: bool) -> None:
    spool = filled(tmp_path / "spool", "a")
    spool.add("b", UPDATE, file_of(tmp_path / "incoming" / "x", body_of("b")))
    spool.commit()
    (stored,) = (tmp_path / "spool" / "7").glob("*.body")
    stored.unlink() if is_gone else stored.write_bytes(body_of("c"))
    again, damaged = reopened(tmp_path / "spool")
    assert (devices(again), damaged) == ("a", ["b"])
    assert reopened(tmp_path / "spool")[1] == []


# A disk that is full


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_nothing_stays_of_a_batch_that_found_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = filled(tmp_path / "spool", "a")
    length = (tmp_path / "spool" / "7" / SEGMENT).stat().st_size
    pwrite = os.pwrite

    def full(descriptor: int, *arguments: object) -> int:
        if arguments:
            pwrite(descriptor, bytes(arguments[0])[:50], int(str(arguments[1])))  # type: ignore[call-overload]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool.add("b", UPDATE, Bytes(body_of("b")))
    spool.add("c", UPDATE, file_of(tmp_path / "incoming" / "x", body_of("c")))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            spool.commit()
    assert (spool.waiting, devices(spool)) == (0, "a")
    assert (tmp_path / "spool" / "7" / SEGMENT).stat().st_size == length
    assert list((tmp_path / "spool" / "7").glob("*.body")) == []
    spool.add("b", UPDATE, Bytes(body_of("b")))
    spool.commit()
    assert devices(spool) == devices(reopened(tmp_path / "spool")[0]) == "ab"
