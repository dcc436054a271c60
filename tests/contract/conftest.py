from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Harness, MemoryHarness, ProcessHarness

from tools.broker import Name


def _process(name: Name, folder: Path, request: pytest.FixtureRequest) -> ProcessHarness:
    if name == "mosquitto":
        request.getfixturevalue("mosquitto")
    return ProcessHarness(name, folder)


@pytest.fixture(params=["memory", "memory without sessions", "mosquitto", "amqtt"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Every broker, the fake ones included."""
    name = request.param
    made: Harness
    if name.startswith("memory"):
        made = MemoryHarness(sessions=name == "memory")
    else:
        made = _process(name, tmp_path / "broker", request)
    yield made
    made.close()


@pytest.fixture(params=["mosquitto", "amqtt"])
def process_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessHarness]:
    """The brokers that are processes."""
    made = _process(request.param, tmp_path / "broker", request)
    yield made
    made.close()
