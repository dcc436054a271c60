"""What is said of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.bench import machine
from edge_client.runtime.native.library import load_library


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B\0")
    write(tmp_path, "proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n")
    write(
        tmp_path,
        "proc/cpuinfo",
        "processor\t: 0\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xfff\n",
    )
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "51234\n")
    return tmp_path


def test_a_board_is_described_by_model_cores_and_temperature(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    facts = machine.describe_machine(load_library(), board)
    assert facts["board"] == "Raspberry Pi 5 Model B"
    assert facts["cpu"] == "Cortex-A76 + ARM part 0xfff"
    assert facts["memory_mb"] == 8192
    assert facts["celsius"] == pytest.approx(51.2, abs=0.1)
    assert "governor" not in facts  # not told here


def test_this_machine_has_a_name_for_its_processor() -> None:
    facts = machine.describe_machine(load_library())
    assert facts["cpu"]
    assert facts["variants"] == list(load_library().variants)


def test_versions_name_numpy() -> None:
    assert machine.describe_versions().keys() >= {"python", "fedsparse", "numpy"}


def test_a_processor_that_a_program_plays_is_found_out(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert "emulated" not in machine.describe_machine(load_library(), board)
    write(board, "sys/devices/system/cpu/modalias", "cpu:type:x86,ven0002fam0019mod0011:feature:")
    assert machine.describe_machine(load_library(), board)["emulated"]
