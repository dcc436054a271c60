"""What is kept of a measurement, and what makes it be taken again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from machines import container_v1, nothing, pi_5

from edge_client.probe import measuring
from edge_client.probe.bandwidth import Bandwidth
from edge_client.probe.board import read_board
from edge_client.probe.measured import KernelSpeed, Measurement, why_again
from edge_client.probe.measuring import basis_of, take_measurement
from edge_client.probe.memory import MemoryReading
from edge_client.probe.processor import read_processor
from edge_client.probe.storage import WriteSpeed
from fedsparse.errors import DataError

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=timezone.utc)
BASIS = {"kernel": "6.6.31", "board": "Raspberry Pi 5", "memory": "8192 MiB"}
ROW = KernelSpeed(
    model="mnist", density=0.1,
    multiply_adds_per_s=1e9, seconds=0.3,
)  # fmt: skip
MEASURED = Measurement(
    measured_at=NOW,
    basis=BASIS,
    kernel_speed=(ROW,),
    bandwidth=Bandwidth(copy_bytes_per_s=2e9, set_bytes_per_s=4e9, block_bytes=2**25),
    writing=WriteSpeed(write_bytes_per_s=2e7, written_bytes=2**24),
    unknown=(),
)


def keep(path: Path, measured: Measurement = MEASURED) -> Path:
    path.write_text(measured.to_json())
    return path


def test_a_measurement_survives_the_disk() -> None:
    assert Measurement.from_json(MEASURED.to_json()) == MEASURED
    bare = replace(
        MEASURED, kernel_speed=(), bandwidth=None, unknown=("all",),
        writing=WriteSpeed(write_bytes_per_s=None, written_bytes=0),
    )  # fmt: skip
    assert Measurement.from_json(bare.to_json()) == bare


def test_what_still_holds_is_taken_from_the_file(tmp_path: Path) -> None:
    path = keep(tmp_path / "profile.json")
    kept, why = why_again(path, BASIS, NOW + timedelta(days=29))
    assert kept == MEASURED
    assert str(path) in why


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kernel": "6.12.1"}, "kernel is 6.12.1, was 6.6.31"),
        ({"memory": "256 MiB"}, "memory is 256 MiB, was 8192 MiB"),
        ({"CPU quota": "0.5 cores"}, "CPU quota is 0.5 cores, was unknown"),
    ],
)
def test_a_change_of_what_it_depends_on_is_named(
    tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    assert why_again(keep(tmp_path / "p"), BASIS | changed, NOW) == (None, reason)


def test_an_old_one_is_taken_again(tmp_path: Path) -> None:
    kept, why = why_again(keep(tmp_path / "p"), BASIS, NOW + timedelta(days=31))
    assert (kept, why) == (None, "the last one is 31 days old")


def test_one_from_the_future_is_taken_again_but_not_for_hours(tmp_path: Path) -> None:
    path = keep(tmp_path / "p")
    assert why_again(path, BASIS, NOW - timedelta(hours=20))[0] == MEASURED
    kept, why = why_again(path, BASIS, NOW - timedelta(days=2))
    assert kept is None
    assert why == "the last one is of 2026-11-23T14:00:00Z, which is still to come by this clock"


def test_one_with_a_gap_is_taken_again(tmp_path: Path) -> None:
    gap = replace(MEASURED, unknown=("writing: /mnt: No space left on device",))
    kept, why = why_again(keep(tmp_path / "p", gap), BASIS, NOW)
    assert (kept, why.rpartition(": ")[2]) == (None, "No space left on device")


def test_without_a_file_that_is_the_reason(tmp_path: Path) -> None:
    assert why_again(tmp_path / "p", BASIS, NOW) == (None, f"none was kept in {tmp_path / 'p'}")


def damaged() -> list[str]:
    good: dict[str, Any] = json.loads(MEASURED.to_json())
    row = good["kernel_speed"][0]
    changes: list[dict[str, Any]] = [
        {"format": 1},
        {"measured_at": "yesterday"},
        {"basis": None},
        {"kernel_speed": [{**row, "multiply_adds_per_s": -1}]},
        {"kernel_speed": [{**row, "density": 7}]},
        {"kernel_speed": [{"model": "mnist"}]},
        {"memory_bandwidth": {"copy_bytes_per_s": 1.0}},
        {"memory_bandwidth": {"copy_bytes_per_s": 0, "set_bytes_per_s": 1, "block_bytes": 1}},
        {"writing": {"write_bytes_per_s": "NaN", "written_bytes": 1}},
        {"unknown": 5},
    ]
    whole = json.dumps(good)
    return [*(json.dumps({**good, **change}) for change in changes),
            "", "\x00\xff", "null", "[]", whole[: len(whole) // 2], "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("text", damaged())
def test_a_damaged_file_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(DataError):
        Measurement.from_json(text)
    kept, why = why_again(tmp_path / "p", BASIS, NOW)
    assert kept is None
    assert "is damaged or of another version" in why


def test_a_folder_in_the_place_of_the_file_is_a_damaged_file(tmp_path: Path) -> None:
    assert "damaged" in why_again(tmp_path, BASIS, NOW)[1]


def basis(root: Path, memory_bytes: int | None = 2**30, folder: Path = Path("/a")) -> Any:  # noqa: ANN401
    memory = MemoryReading(total_bytes=memory_bytes or 0, available_bytes=0, source="x")
    return basis_of(
        read_board(root), read_processor(root, lambda: {0, 2}), memory if memory_bytes else None,
        architecture="aarch64", kernel="6.6", folder=folder,
    )  # fmt: skip


def test_figures_depend_on_board_limits_and_version(tmp_path: Path) -> None:
    found = basis(container_v1(pi_5(tmp_path)))
    assert found["board"].startswith("Raspberry Pi 5")
    assert (found["usable cores"], found["CPU quota"]) == ("0,2", "0.25 cores")
    assert (found["memory"], found["folder"]) == ("1024 MiB", "/a")
    assert "with kernels " in found["fedsparse"]


def test_what_is_unknown_depends_on_nothing_that_was_guessed(tmp_path: Path) -> None:
    found = basis(nothing(tmp_path), None)
    assert (found["board"], found["memory"], found["CPU quota"]) == ("unknown", "unknown", "none")


def test_other_kernels_of_the_same_version_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = basis(tmp_path)["fedsparse"]
    (tmp_path / "other.so").write_bytes(b"other")
    monkeypatch.setattr(measuring, "LIBRARY", tmp_path / "other.so")
    assert basis(tmp_path)["fedsparse"] != before
    monkeypatch.setattr(measuring, "LIBRARY", tmp_path / "none.so")
    assert basis(tmp_path)["fedsparse"].endswith("kernels missing")


def test_gaps_of_each_part_are_named_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(module: str, limit_s: float, heard: Any) -> str:  # noqa: ANN401
        if module == measuring.BANDWIDTH:
            return "was killed, probably for want of memory"
        row = {"model": "l", "density": 0.1, "multiply_adds_per_s": 1e9, "seconds": 1}
        heard({"cases": 3})
        heard({"row": row})
        heard({"row": {**row, "multiply_adds_per_s": 2e9}})
        return "ran out of time"

    monkeypatch.setattr(measuring, "listen", listen)
    said: list[str] = []
    measured = take_measurement(BASIS, tmp_path / "none", None, said.append)
    assert [row.multiply_adds_per_s for row in measured.kernel_speed] == [2e9]  # the last counts
    assert measured.bandwidth is None
    assert measured.unknown == (
        "kernel speed: 2 of 3 cases: ran out of time",
        "memory bandwidth: was killed, probably for want of memory",
        f"writing: {tmp_path / 'none'}: No such file or directory",
    )
    assert "training kernels: l at density 0.1 (1 of 3)" in said


def test_without_kernels_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "KERNELS", "edge_client.no_such_module")
    measured = take_measurement(BASIS, tmp_path, 10**9, lambda _: None)
    assert measured.kernel_speed == ()
    assert measured.unknown[0].startswith("kernel speed: all: ")
    assert measured.bandwidth is not None
    assert measured.writing.write_bytes_per_s is not None
