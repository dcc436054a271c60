"""A device's doctor in this process, which goes on afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _kept_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It silences the logs and leaves modules out, as the last act of a process."""
    monkeypatch.setattr("edge_client.cli.leave_out", lambda *_: None)
    yield
    logging.disable(logging.NOTSET)
