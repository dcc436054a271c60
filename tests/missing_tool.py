"""What a test does where a program is not installed."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def leave_out(reason: str) -> NoReturn:
    """Skip the test; where tools are required (in CI), fail instead.

    Args:
        reason: what is missing, and the command that installs it.
    """
    if os.environ.get("FEDSPARSE_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
