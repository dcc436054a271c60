from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_world import World


@pytest.fixture
def world(tmp_path: Path, mosquitto: str) -> Iterator[World]:
    """A fleet whose broker the test starts."""
    made = World(tmp_path / "fleet")
    yield made
    made.close()
