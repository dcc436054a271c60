"""A file is the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedsparse.durable import move_durably, write_durably, write_secret


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_durably(path, b"one")
    assert path.read_bytes() == b"one"
    write_durably(path, memoryview(b"longer than one"))
    assert path.read_bytes() == b"longer than one"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("at", ["fsync", "replace"])
@pytest.mark.parametrize("fault", [OSError("disk full"), PowerCut()])
def test_the_old_file_stands_until_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, fault: BaseException
) -> None:
    path = tmp_path / "file.bin"
    write_durably(path, b"old")

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(type(fault)):
            write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_reach_the_disk_before_the_name_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path
        order.append("folder" if is_folder else "file")
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        order.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    write_durably(tmp_path / "file.bin", b"data")
    assert order == ["file", "name", "folder"]


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            write_durably(path, b"x")
    assert pipe.is_fifo()


def test_a_file_is_moved_into_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "a" / "b" / "file.bin"
    for data in (b"one", b"longer than one"):
        source.write_bytes(data)
        move_durably(source, path)
        assert path.read_bytes() == data
        assert not source.exists()


def test_the_bytes_of_a_file_reach_the_disk_before_it_is_moved_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    source, path = tmp_path / "source", tmp_path / "to" / "file.bin"
    source.write_bytes(b"data")

    def spy_fsync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        order.append("move")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    move_durably(source, path)
    assert order == ["source", "move", "to"]


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_move_that_fails_leaves_both_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    source, path = tmp_path / "source", tmp_path / "file.bin"
    source.write_bytes(b"new")
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[at], fail)
        with pytest.raises(OSError, match="disk full"):
            move_durably(source, path)
    assert (source.read_bytes(), path.read_bytes()) == (b"new", b"old")


def test_what_is_not_there_cannot_be_moved(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        move_durably(tmp_path / "source", path)
    assert path.read_bytes() == b"old"


def test_a_secret_is_its_owners_alone_before_the_first_byte_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    fsync = os.fsync

    def spy_fsync(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    path = tmp_path / "identity" / "key.pem"
    stale = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(mode=0o700)
    stale.write_bytes(b"of a process that was killed")
    stale.chmod(0o644)
    write_secret(path, b"one")
    write_secret(path, b"another")
    assert modes == [0o600, 0o700, 0o600, 0o700]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"another", 0o600)


def test_the_folder_of_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    write_secret(tmp_path / "identity" / "key.pem", b"secret")
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o700
