"""A gateway's doctor in this process, which goes on afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _kept_process() -> Iterator[None]:
    """It silences the logs, as the last act of a process."""
    yield
    logging.disable(logging.NOTSET)
