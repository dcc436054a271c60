from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FLAVOURS, LIMIT_BYTES, Harness, MemoryHarness, ProcessHarness


def _process(name: str, folder: Path, request: pytest.FixtureRequest) -> ProcessHarness:
    flavour = FLAVOURS[name]
    if flavour.broker == "mosquitto":
        request.getfixturevalue("mosquitto")
    return ProcessHarness(flavour, folder)


@pytest.fixture(params=["memory", "memory without sessions", "memory, 2 MB a packet", *FLAVOURS])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Every broker, the fake ones included."""
    name = request.param
    made: Harness
    if name.startswith("memory"):
        limit = LIMIT_BYTES if name.endswith("2 MB a packet") else None
        made = MemoryHarness(sessions=name != "memory without sessions", packet_bytes=limit)
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
