"""A town whose broker is started once for all tests; each test has devices of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from enrolment_town import Town


@pytest.fixture(scope="module")
def town(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds on a device takes less here."""
    monkeypatch.setattr("edge_client.identity.errand.REPEAT_S", 0.5)
    monkeypatch.setattr("edge_client.identity.errand.PATIENCE_S", 20.0)
    monkeypatch.setattr("edge_client.identity.errand.BUSY_S", (0.1, 0.2))
