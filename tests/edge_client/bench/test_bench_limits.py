"""The limits of the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_client.bench.limits import measure_limits
from edge_client.runtime.native.library import load_library

ROOT = Path(__file__).parents[3]
SMALL = {"l1": 8 * 1024, "l2": 64 * 1024}


@pytest.mark.parametrize("variant", load_library().variants)
def test_every_variant_has_limits_that_a_processor_can_have(variant: str) -> None:
    limits = measure_limits(load_library(), variant=variant, levels=SMALL)
    assert limits.variant == variant
    assert 1e8 < limits.fma_per_s < 1e12
    for rates in (limits.load_bytes_per_s, limits.copy_bytes_per_s):
        assert list(rates) == ["l1", "l2"]
        assert all(1e8 < rate < 1e13 for rate in rates.values())


def test_limits_are_measured_without_numpy() -> None:
    code = "import sys, edge_client.bench.limits; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
