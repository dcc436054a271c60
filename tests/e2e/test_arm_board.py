"""The wheels at work; the aarch64 one on an emulated processor, as a device would have it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from e2e_fleet import JOB, Fleet
from emulated_board import EmulatedBoard, start_board
from engine_tests import ROOT, replay

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # the first test builds and unpacks

SAME_AS_HERE = ("hypothesis", "numpy", "pytest", "pytest-timeout")  # what the tape was made with


@pytest.fixture(scope="module")
def board(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> EmulatedBoard:
    """An aarch64 Debian with the wheel and what the tests need; no compiler, no torch."""
    started = start_board("arm64", tmp_path_factory.mktemp("board"))
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in SAME_AS_HERE]
    started.install(str(wheels["aarch64"]), *pinned)
    return started


def test_the_wheels_are_what_their_tags_say(wheels: dict[str, Path]) -> None:
    """auditwheel reads which versions of glibc's symbols the library asks for."""
    assert set(wheels) == {"x86_64", "aarch64"}
    for machine, wheel in wheels.items():
        audit = subprocess.run(
            [sys.executable, "-m", "auditwheel", "show", str(wheel)],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found = re.search(rf'tag:\s+"manylinux_2_(\d+)_{machine}"', audit)
        assert found, audit
        assert int(found[1]) <= 17, audit


def test_the_engine_passes_its_tests_from_the_x86_64_wheel(
    wheels: dict[str, Path], tape: Path, tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path]
    subprocess.run([*pip, wheels["x86_64"]], check=True)
    assert replay(tape, [sys.executable], tmp_path) > 100


def test_the_engine_passes_its_tests_on_aarch64(board: EmulatedBoard, tape: Path) -> None:
    where = "import platform, edge_client; print(platform.machine(), edge_client.__file__)"
    found = board.run("-c", where, cwd=ROOT / "tests").stdout.split()
    assert found == ["aarch64", str(board.site / "edge_client" / "__init__.py")]
    assert replay(tape, [board.python], None) > 100


def test_edge_client_starts_from_the_wheel(board: EmulatedBoard, tmp_path: Path) -> None:
    said = board.run("-m", "edge_client", "--help", cwd=tmp_path).stdout
    assert said.startswith("usage: edge-client")
    refused = board.run("-m", "edge_client", "run", "no.toml", cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert "no.toml" in refused.stderr


def test_a_32_bit_system_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """By the command, and by the build, before pip would try to compile numpy."""
    board = start_board("armhf", tmp_path)
    board.install("hatchling", pure=True)
    sentence = "needs a 64-bit system, and this Python has 32 bits (armv7l)"
    started = board.run("-m", "edge_client", "run", "client.toml", cwd=ROOT, check=False)
    assert started.returncode == 2
    assert started.stderr.startswith(f"edge-client: fedsparse {sentence}")
    ask = "from hatchling import build; build.get_requires_for_build_wheel()"
    built = board.run("-c", ask, cwd=ROOT, check=False)
    assert built.returncode == 1
    assert built.stderr.startswith(f"fedsparse {sentence}")
    assert started.stderr.count("\n") == built.stderr.count("\n") == 1


def test_edge_client_bench_runs_to_its_table(board: EmulatedBoard, tmp_path: Path) -> None:
    """Its figures are the emulator's, and mean nothing."""
    asked = ("bench", "digits", "--quick", "--densities=0.1", "--output=bench.json")
    table = board.run("-m", "edge_client", *asked, cwd=tmp_path).stdout
    assert re.search(r"^digits +0\.1 ", table, re.MULTILINE), table
    assert json.loads((tmp_path / "bench.json").read_text())["format"] == "fedsparse.bench"


class MixedFleet(Fleet):
    """`device-0` is an emulated board; the others are this machine."""

    def __init__(self, folder: Path, board: EmulatedBoard) -> None:
        super().__init__(folder, replace(JOB, rounds=1))
        self._board = board

    def device_command(self, device: str) -> list[str]:
        command = super().device_command(device)
        return [str(self._board.python), *command[1:]] if device == "device-0" else command


@pytest.mark.usefixtures("mosquitto")
def test_a_board_takes_part_in_a_job(board: EmulatedBoard, tmp_path: Path) -> None:
    with MixedFleet(tmp_path, board) as fleet:
        fleet.start()
        fleet.wait_for(lambda event: event["event"] == "job_done", within_s=240)
        trained = {e["device"]: e["loss"] for e in fleet.named("update") if e["round"] == 1}
        assert set(trained) == {"device-0", "device-1", "device-2"}
        assert trained["device-0"] < 1.5 * max(trained["device-1"], trained["device-2"])
