"""What the tests of faults have left: who was killed or cut, at which step, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from fedsparse.errors import ConfigError

LEAST_CELLS: Final = 60


def read_faults(path: Path) -> dict[str, Any] | None:
    """The table `{"cells": [{"victim", "step", "ok"}, ...]}`; None where it has not been made.

    Raises:
        ConfigError: the file is something else.
    """
    if not path.is_file():
        return None
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        failures = [f"{one['victim']} at {one['step']}" for one in cells if not one["ok"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no table of faults: {error!r}") from error
    return {
        "cells": len(cells),
        "failures": failures,
        "holds": len(cells) >= LEAST_CELLS and not failures,
    }
