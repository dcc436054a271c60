"""What all tests share."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings
from missing_tool import leave_out

from tools.broker import find_mosquitto

# A loaded machine is no reason to fail; what must not be slow is measured by the benchmarks.
settings.register_profile("fedsparse", deadline=None)
settings.load_profile("fedsparse")

# Where tests run in the background (nohup, a shell's &), interrupts are ignored, by children too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """The broker; without it a test is left out, but where tools are required (in CI) it fails."""
    program = find_mosquitto()
    if program is None:
        leave_out("mosquitto is not installed: sudo apt-get install mosquitto")
    return program
