"""The whole document and its page, on machines of every kind and on damaged ones."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machines
import pytest
from test_probe_measured import MEASURED

from edge_client.probe.link import LinkEstimate
from edge_client.probe.report import read_means, report
from edge_client.probe.table import EMULATED, page, ranges

Machine = Callable[[Path], Path]
ORIGIN = {"reused": False, "why": "none was kept"}
# The contract with those who read it: section -> its keys; others may come, none may go.
CONTRACT: dict[str, set[str]] = {
    "board": {"model", "source", "jetson_release"},
    "cores": {"present", "usable", "quota", "clusters"},
    "memory": {"total_bytes", "available_bytes", "source", "swap_bytes", "zram_bytes"},
    "storage": {"path", "free_bytes", "write_bytes_per_s", "written_bytes"},
    "memory_bandwidth": {"copy_bytes_per_s", "set_bytes_per_s"},
    "link": {"up_bytes_per_s", "down_bytes_per_s", "transfers"},
    "heat": {"celsius", "zone", "throttled", "reasons"},
    "power": {"source", "battery_percent"},
}
GARBAGE = ("", "\0", "-1", "1e9", "x" * 5000, "99999999999999999999999", "\xff\xfe\n\n::,-", "max")


@pytest.fixture(autouse=True)
def no_firmware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))  # on a Pi, `vcgencmd` would answer


def document(root: Path, folder: Path = Path("/nowhere"), **changes: object) -> dict[str, Any]:
    found = report(
        read_means(root), MEASURED, LinkEstimate(up=(2e6,)), folder, origin=ORIGIN, root=root
    )
    again: dict[str, Any] = json.loads(json.dumps({**found, **changes}, allow_nan=False))
    return again


@pytest.mark.parametrize("machine", machines.MACHINES)
def test_every_machine_gets_the_whole_document(tmp_path: Path, machine: Machine) -> None:
    found = document(machine(tmp_path))
    assert found["format"] == 1
    assert found.keys() >= {
        *CONTRACT, "measured_at", "architecture", "kernel", "python", "cpu_features",
        "kernel_speed", "unknown",
    }  # fmt: skip
    for section, keys in CONTRACT.items():
        assert found[section].keys() >= keys
    assert found["kernel_speed"][0].keys() >= {
        "model", "density", "multiply_adds_per_s", "seconds",
    }  # fmt: skip
    assert found["measured_at"] == "2026-11-23T14:00:00Z"


@pytest.mark.parametrize("machine", machines.MACHINES)
def test_every_machine_gets_a_page_that_fits(tmp_path: Path, machine: Machine) -> None:
    lines = list(page(document(machine(tmp_path))))
    assert max(map(len, lines)) <= 100
    assert {line.split()[0] for line in lines if line[0] != " "} == {
        "board", "system", "processor", "vectors", "memory", "storage", "network", "heat",
        "power", "bandwidth", "kernels", "unknown", "measured",
    }  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("machine", machines.MACHINES)
def test_garbage_in_every_file_is_unknown_and_no_crash(
    tmp_path: Path, machine: Machine, garbage: str
) -> None:
    for path in machine(tmp_path).rglob("*"):
        if path.is_file():
            path.write_bytes(garbage.encode("latin-1"))
    found = document(tmp_path)
    assert found["heat"]["celsius"] is None
    assert found["power"]["battery_percent"] is None
    assert found["memory"]["total_bytes"] is None
    assert found["unknown"]
    assert list(page(found))


@pytest.mark.parametrize("machine", machines.MACHINES)
def test_without_permission_there_is_a_report_that_names_each_file(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]

    def refused(self: Path, *_: object, **__: object) -> bytes:
        if self in files:
            raise PermissionError(errno.EACCES, "Permission denied")
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def shut(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        patch.setattr(Path, "read_text", refused)
        patch.setattr(Path, "iterdir", shut)
        found = document(tmp_path)
    refusals = [line for line in found["unknown"] if "Permission denied" in line]
    assert {"/sys/class/thermal: Permission denied"} < set(refusals)
    assert any("/proc/" in line for line in refusals) == bool(files)
    assert found["memory"]["available_bytes"] is None
    assert len(found["unknown"]) == len(set(found["unknown"]))


def test_a_machine_that_shows_nothing_names_every_gap(tmp_path: Path) -> None:
    found = document(machines.nothing(tmp_path))
    gaps = {line.partition(":")[0] for line in found["unknown"]}
    assert gaps >= {
        "board", "memory", "swap", "zram", "cores", "CPU features", "CPU quota", "free room",
        "temperature", "throttling", "power source",
    }  # fmt: skip
    assert found["cores"]["present"] is None
    assert found["heat"]["throttled"] is None


def test_limits_of_a_container_are_its_figures(tmp_path: Path) -> None:
    found = document(machines.container_v2(tmp_path))
    assert found["memory"]["total_bytes"] == 512 * 2**20
    assert found["memory"]["available_bytes"] == 400 * 2**20
    assert found["memory"]["source"] == "cgroup v2"
    assert found["cores"]["quota"] == 1.5


def test_swap_is_shown_and_is_no_memory(tmp_path: Path) -> None:
    memory = document(machines.pi_zero_2w(tmp_path))["memory"]
    assert memory["available_bytes"] == 268_000 * 1024
    assert memory["swap_bytes"] == memory["zram_bytes"] == 213_000 * 1024


def test_a_page_reads_as_people_do(tmp_path: Path) -> None:
    text = "\n".join(page(document(machines.jetson_orin_nano(tmp_path), tmp_path)))
    assert "NVIDIA Jetson Orin Nano Developer Kit (named by the device tree)" in text
    assert "Jetson Linux R36.4.3" in text
    assert "4-5: Cortex-A78AE, up to 1510 MHz" in text
    assert "52.2 Celsius (cpu-thermal); not slowed down (over-current alarm 1: 2 since" in text
    assert "up 2 MB/s, down unknown (of 1 transfers)" in text
    assert "copy 2.0 GB/s, set 4.0 GB/s (blocks of 34 MB)" in text


def test_kernels_are_a_line_a_model_and_a_column_a_density() -> None:
    row = {"multiply_adds_per_s": 5e9, "seconds": 1.0}
    rows = [
        {**row, "model": "mnist", "density": 0.1},
        {**row, "model": "mnist", "density": 0.05},
        {**row, "model": "watch", "density": 0.1},
    ]
    lines = list(page(document(Path("/nowhere"), kernel_speed=rows)))
    start = next(i for i, line in enumerate(lines) if line.startswith("kernels"))
    assert [line.split()[-2:] for line in lines[start : start + 3]] == [
        ["0.05", "0.1"], ["5", "5"], ["-", "5"],
    ]  # fmt: skip


def test_figures_that_were_kept_are_called_so() -> None:
    origin = {"reused": True, "why": "kept in /a; nothing has changed"}
    text = " ".join(" ".join(page(document(Path("/nowhere"), origin=origin))).split())
    assert "2026-11-23T14:00:00Z, earlier: kept in /a; nothing has changed; --again" in text


def test_an_emulated_processor_is_called_that_first(tmp_path: Path) -> None:
    found = document(machines.pi_5(tmp_path))
    assert next(page(found)) != EMULATED
    found["board"]["emulated"] = True
    assert next(page(found)) == EMULATED


def test_processors_are_written_as_the_kernel_does() -> None:
    assert ranges([0, 1, 2, 3, 5, 7, 8]) == "0-3,5,7-8"
    assert ranges([2]) == "2"
