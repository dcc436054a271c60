"""A message on the disk is the one that was kept, or is known to be damaged."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fedsparse.body import NO_BODY, Body, Bytes, File, joined
from fedsparse.errors import RemoteProtocolError
from fedsparse.stored import load_message, read_message, remove_message, save_message
from fedsparse.wire.messages import Failure, Message, Part, Stage, Update

DATA = bytes(range(256)) * 4
FAILURE = Failure(job="watch", round_id=3, reason="x")


def update(size: int = len(DATA), round_id: int = 1) -> Update:
    return Update(
        job="watch", round_id=round_id, stage=Stage.TRAIN, level=0.1, num_examples=9,
        mask_digest="ab" * 32, parts=(Part(name="values", codec="f32", size=size),),
    )  # fmt: skip


def a_file(path: Path, data: bytes = DATA) -> File:
    path.write_bytes(data)
    return File(path=path, size=len(data), digest=hashlib.sha256(data).hexdigest())


def a_body(kind: str, folder: Path) -> Body:
    if kind == "file":
        return a_file(folder / "elsewhere")
    if kind == "joined":
        return joined(Bytes(DATA[:100]), a_file(folder / "elsewhere", DATA[100:]))
    return Bytes(DATA)


@pytest.mark.parametrize("kind", ["bytes", "file", "joined"])
def test_what_was_kept_is_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "box" / "one.head"
    save_message(path, update(), a_body(kind, tmp_path))
    message, body = load_message(path)
    assert (message, body.read(), body.size) == (update(), DATA, len(DATA))
    assert isinstance(body, File)
    assert body.verify()
    assert read_message(path) == (update(), DATA)
    assert sorted(one.name for one in path.parent.iterdir()) == ["one.body", "one.head"]


@pytest.mark.parametrize("message", [FAILURE, update(0)])
def test_a_message_without_a_body_is_one_file(tmp_path: Path, message: Message) -> None:
    path = tmp_path / "one.head"
    save_message(path, message, NO_BODY)
    assert load_message(path) == (message, NO_BODY)
    assert read_message(path) == (message, b"")
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_is_a_file_is_moved_and_not_copied(tmp_path: Path) -> None:
    file = a_file(tmp_path / "elsewhere")
    inode = file.path.stat().st_ino
    save_message(tmp_path / "one.head", update(), file)
    assert not file.path.exists()
    assert (tmp_path / "one.body").stat().st_ino == inode


def test_a_message_can_be_kept_again_with_the_body_that_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "one.head"
    save_message(path, update(), Bytes(DATA))
    _, body = load_message(path)
    save_message(path, update(round_id=2), body)
    assert read_message(path) == (update(round_id=2), DATA)


def test_a_body_of_another_message_is_noticed(tmp_path: Path) -> None:
    """As where a process was killed after it had written the body, and before the head."""
    path = tmp_path / "one.head"
    save_message(path, update(), Bytes(DATA))
    (tmp_path / "one.body").write_bytes(DATA[::-1])
    _, body = load_message(path)
    assert isinstance(body, File)
    assert not body.verify()
    with pytest.raises(RemoteProtocolError, match="not the one that the head names"):
        read_message(path)


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1])
def test_a_body_that_was_cut_short_is_noticed(tmp_path: Path, size: int) -> None:
    path = tmp_path / "one.head"
    save_message(path, update(), Bytes(DATA))
    os.truncate(tmp_path / "one.body", size)
    with pytest.raises(RemoteProtocolError, match="not the one that the head names"):
        read_message(path)


def test_a_damaged_head_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one.head"
    save_message(path, update(), Bytes(DATA))
    path.write_bytes(path.read_bytes()[:-1])
    for read in (load_message, read_message):
        with pytest.raises(RemoteProtocolError):
            read(path)


def test_what_was_never_kept_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_message(tmp_path / "one.head")
    remove_message(tmp_path / "one.head")


def test_what_was_removed_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "one.head"
    save_message(path, update(), Bytes(DATA))
    remove_message(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_whenever_the_process_dies_the_message_is_whole_or_known_not_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """At each of its calls that bring something to the disk."""
    other = DATA[::-1]
    outcomes = []
    for dies_at in range(9):
        folder = tmp_path / str(dies_at)
        path = folder / "one.head"
        save_message(path, update(), Bytes(DATA))
        body = Bytes(other) if kind == "bytes" else a_file(folder / "elsewhere", other)
        with monkeypatch.context() as patch:
            finished = dies_after(dies_at, patch, path, body)
        try:
            found = read_message(path)
        except RemoteProtocolError:
            assert not finished
            outcomes.append("damaged")
        else:
            new = found == (update(round_id=2), other)
            assert new or (found == (update(), DATA) and not finished)
            outcomes.append("new" if new else "old")
    assert outcomes == sorted(outcomes, key=["old", "damaged", "new"].index)
    assert set(outcomes) == {"old", "damaged", "new"}


def dies_after(calls: int, patch: pytest.MonkeyPatch, path: Path, body: Body) -> bool:
    """Keep a second message; whether the process lives to the end of it."""
    left = calls
    fsync, replace = os.fsync, Path.replace

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    def counted_fsync(descriptor: int) -> None:
        count()
        fsync(descriptor)

    def counted_replace(self: Path, target: Path) -> Path:
        count()
        return replace(self, target)

    patch.setattr(os, "fsync", counted_fsync)
    patch.setattr(Path, "replace", counted_replace)
    try:
        save_message(path, update(round_id=2), body)
    except KeyboardInterrupt:
        return False
    return True
