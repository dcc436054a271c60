"""The split of a run on disk: made once, by one process, and named where it is damaged."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from aggregator.job import MethodConfig
from fedsparse.errors import DataError
from tools.datasets.prepare import prepare
from tools.simulation import data, lock
from tools.simulation.data import open_split
from tools.simulation.run import simulate
from tools.simulation.spec import RunSpec

SPEC = RunSpec(
    dataset="digits",
    plan="digits",
    clients=3,
    cohort=2,
    samples=20,
    method=MethodConfig(name="dense", levels=(1.0,)),
    rounds=1,
)


def test_two_that_ask_at_once_get_what_one_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one makes it only once the second one is about to wait for the lock."""
    asked, made = [threading.Event(), threading.Event()], []
    waiting = iter(asked)

    def flock(file: IO[bytes], how: int) -> None:
        next(waiting).set()
        fcntl.flock(file, how)

    def make(dataset: str, folder: Path, **options: int) -> None:
        made.append(folder)
        assert asked[1].wait(20), "the second one did not ask for the lock"
        prepare(dataset, folder, **options)

    monkeypatch.setattr(lock, "fcntl", _Flock(flock))
    monkeypatch.setattr(data, "prepare", make)
    found: list[data.Split] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_split(SPEC, tmp_path))) for _ in range(2)
    ]
    threads[0].start()
    assert asked[0].wait(20)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert found == [open_split(SPEC, tmp_path)] * 2
    assert len(made) == 1


class _Flock:
    """The module `fcntl` with another `flock`."""

    LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

    def __init__(self, flock: Callable[[IO[bytes], int], None]) -> None:
        self.flock = flock


def test_what_a_kill_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    for name in (".preparing-digits-3x20-a1-s0", ".preparing-mnist-100xall-a1-s0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "device-00.npz").write_bytes(b"PK")
    open_split(SPEC, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", SPEC.data_key]


def test_a_split_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be divided among 5000"):
        open_split(replace(SPEC, clients=5000), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_others_may_read_what_they_may_read_elsewhere(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    split = open_split(SPEC, tmp_path / "data")
    for folder in (split.test.parent, split.test.parent.parent):
        assert folder.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"devices": 3, "test": "test.npz", "input_shape": [1, 8, 8]}',
        '{"devices": ["device-00.npz"], "test": "test.npz", "input_shape": [1, 8, 8]}',
        '{"devices": ["a", "b", "c"], "test": "test.npz", "input_shape": [1, 8, 8]}',
        "\udcff",
    ],
)
def test_a_damaged_description_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    kept = open_split(SPEC, tmp_path).test.parent
    (kept / "dataset.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=f"{kept} is damaged .*: remove it, and it is prepared"):
        open_split(SPEC, tmp_path)


def test_a_split_without_a_description_is_damaged(tmp_path: Path) -> None:
    kept = open_split(SPEC, tmp_path).test.parent
    (kept / "dataset.json").unlink()
    with pytest.raises(DataError, match=f"{kept} is damaged"):
        open_split(SPEC, tmp_path)


@pytest.mark.parametrize("name", ["device-01.npz", "test.npz"])
@pytest.mark.parametrize("damage", ["cut short", "garbled", "empty", "removed"])
def test_a_damaged_file_ends_the_run_with_the_way_out(
    tmp_path: Path, name: str, damage: str
) -> None:
    spec = replace(SPEC, cohort=3)
    kept = open_split(spec, tmp_path / "data").test.parent
    content = (kept / name).read_bytes()
    middle = len(content) // 2
    garbled = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    match damage:
        case "cut short":
            (kept / name).write_bytes(content[:middle])
        case "garbled":
            (kept / name).write_bytes(garbled)
        case "empty":
            (kept / name).write_bytes(b"")
        case _:
            (kept / name).unlink()
    with pytest.raises(DataError, match=f"{kept} is damaged .*{name}.*: remove it, and it is"):
        simulate(spec, tmp_path / "run", data=tmp_path / "data")


def test_a_plan_for_other_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"digits are \(1, 8, 8\), mnist takes \(1, 28, 28\)"):
        open_split(replace(SPEC, plan="mnist"), tmp_path)
