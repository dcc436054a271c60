"""Devices whose native library is damaged: they decline and say why; the job goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from e2e_fleet import JOB, Fleet

from edge_client.runtime.native.library import LIBRARY

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]

ROOT = Path(__file__).parents[2]
SECTIONS_OFFSET = slice(40, 48)  # of the ELF header


class DamagedFleet(Fleet):
    """Two devices have packages of their own, the third is sound."""

    def __init__(self, folder: Path, packages: dict[str, Path]) -> None:
        cohort = replace(JOB.cohort, min_devices=1)
        super().__init__(folder, replace(JOB, rounds=1, cohort=cohort))
        self._packages = packages

    def device_command(self, device: str) -> list[str]:
        command = super().device_command(device)
        packages = self._packages.get(device)
        return ["env", f"PYTHONPATH={packages}", *command] if packages else command


def damaged_packages(folder: Path, library: bytes) -> Path:
    """The device's packages with `library` in place of the kernels."""
    for package in ("edge_client", "fedsparse", "profiles"):
        shutil.copytree(ROOT / package, folder / package)
    (folder / LIBRARY.relative_to(ROOT)).write_bytes(library)
    return folder


def test_a_device_with_a_damaged_library_declines_and_stays(tmp_path: Path) -> None:
    whole = LIBRARY.read_bytes()
    # Its header is sound, and loading it ends the process: the way of a worn memory card.
    start = int.from_bytes(whole[SECTIONS_OFFSET], "little")
    wild = whole[:4096] + b"\xff" * (start - 4096) + whole[start:]
    packages = {
        "device-0": damaged_packages(tmp_path / "short", whole[: len(whole) // 2]),
        "device-1": damaged_packages(tmp_path / "wild", wild),
    }
    with DamagedFleet(tmp_path, packages) as fleet:
        fleet.start()
        fleet.wait_until_done()
        answers = {e["device"]: e for e in fleet.named("device_ready") if e["level"] is None}
        assert set(answers) == {"device-0", "device-1"}
        assert "it is cut off" in answers["device-0"]["reason"]
        assert "pip install" in answers["device-0"]["reason"]
        assert "calibration failed: " in answers["device-1"]["reason"]
        assert {e["device"] for e in fleet.named("update")} == {"device-2"}
        for device in packages:
            assert fleet.is_running(device)
