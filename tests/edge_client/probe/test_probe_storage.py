from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_client.probe.storage import FIRST_BYTES, LARGEST_BYTES, MOST_BYTES, measure_writing

ROOT = Path(__file__).parents[3]
Room = namedtuple("Room", ("f_bavail", "f_frsize"))
MEASURE = (
    "import json, resource, sys; from dataclasses import asdict; from pathlib import Path;"
    "from edge_client.probe.storage import measure_writing;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2);"
    "print(json.dumps(asdict(measure_writing(Path(sys.argv[1])))))"
)


def with_room(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Room(f_bavail=size, f_frsize=1))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the file each time that it is forced to the disk; no disk is waited for."""
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda number: sizes.append(os.fstat(number).st_size))
    return sizes


def ticking(step_s: float) -> Callable[[], float]:
    """A clock on which every block takes `step_s`."""

    def ticks() -> Iterator[float]:
        now_s = 0.0
        while True:
            yield now_s
            now_s += step_s

    return ticks().__next__


def test_a_rate_is_measured_and_nothing_stays_behind(tmp_path: Path) -> None:
    found = measure_writing(tmp_path, limit_s=0.2)
    assert found.write_bytes_per_s is not None
    assert found.write_bytes_per_s > 0
    assert FIRST_BYTES <= found.written_bytes <= MOST_BYTES
    assert found.unknown == ()
    assert list(tmp_path.iterdir()) == []


def test_every_block_is_on_the_disk_before_the_next(tmp_path: Path, syncs: list[int]) -> None:
    found = measure_writing(tmp_path, limit_s=10.0, clock=ticking(0.01))
    blocks = [after - before for before, after in zip([0, *syncs], syncs, strict=False)]
    assert blocks[:3] == [FIRST_BYTES, 2 * FIRST_BYTES, 4 * FIRST_BYTES]
    assert max(blocks) == LARGEST_BYTES
    assert found.written_bytes == syncs[-1] <= MOST_BYTES
    assert found.write_bytes_per_s == pytest.approx(syncs[-1] / (0.01 * len(syncs)))


def test_a_slow_disk_is_left_alone_after_its_first_block(tmp_path: Path, syncs: list[int]) -> None:
    found = measure_writing(tmp_path, limit_s=1.0, clock=ticking(4.0))
    assert (found.written_bytes, len(syncs)) == (FIRST_BYTES, 1)
    assert found.write_bytes_per_s == FIRST_BYTES / 4.0


def test_a_disk_with_little_room_keeps_most_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[int]
) -> None:
    with_room(monkeypatch, 40_000_000)
    found = measure_writing(tmp_path, limit_s=10.0, clock=ticking(0.01))
    assert FIRST_BYTES <= found.written_bytes <= 0.05 * 40_000_000


def test_a_disk_that_is_nearly_full_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[int]
) -> None:
    with_room(monkeypatch, 3_000_000)
    found = measure_writing(tmp_path)
    assert (found.write_bytes_per_s, found.written_bytes, syncs) == (None, 0, [])
    assert found.unknown == (f"writing: {tmp_path}: only 3.0 MB are free",)


def test_little_is_written_where_memory_is_short_for_the_folder_may_lie_in_it(
    tmp_path: Path, syncs: list[int]
) -> None:
    found = measure_writing(tmp_path, 40_000_000, limit_s=10.0, clock=ticking(0.01))
    assert FIRST_BYTES <= found.written_bytes <= 4_000_000
    found = measure_writing(tmp_path, 2_000_000)
    assert found.unknown == (f"writing: {tmp_path}: only 2.0 MB of memory are available",)


def test_a_disk_that_refuses_in_mid_write_is_reported_and_clean(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "1000000"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["write_bytes_per_s"] is None
    assert found["written_bytes"] == 3 * FIRST_BYTES
    assert found["unknown"] == [f"writing: {tmp_path}: File too large"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc", "/nowhere"])
def test_a_folder_that_takes_no_files_is_reported(folder: str) -> None:
    found = measure_writing(Path(folder))
    assert found.write_bytes_per_s is None
    assert found.unknown[0].startswith(f"writing: {folder}: ")


def test_the_file_has_no_name_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: seen.append(list(tmp_path.iterdir())))
    measure_writing(tmp_path, limit_s=0.1)
    assert seen
    assert not any(seen)  # a process that is killed leaves nothing, either


def test_what_is_written_cannot_be_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[bytes] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda number: blocks.append(os.pread(number, FIRST_BYTES, 0))
    )
    measure_writing(tmp_path, limit_s=0.01)
    assert len(zlib.compress(blocks[0])) > 0.99 * FIRST_BYTES
