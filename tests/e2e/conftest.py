"""What the long tests share: wheels, the recorded oracle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tests import ROOT, passed, start_engine_tests


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Processor -> the wheel that `scripts/wheels` builds for it."""
    folder = tmp_path_factory.mktemp("wheels")
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts" / "wheels", folder], check=True, env=environment)
    return {wheel.stem.partition("manylinux2014_")[2]: wheel for wheel in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine's tests asked torch, and its answers (oracle_tape.py)."""
    path = tmp_path_factory.mktemp("tape") / "oracle.tape"
    passed(start_engine_tests([sys.executable], ROOT, f"--record-tape={path}"))
    return path
