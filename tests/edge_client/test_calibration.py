from __future__ import annotations

import json
from typing import Any

import pytest

from edge_client.calibration import Calibration
from fedsparse.errors import DataError

DIGEST = "ab" * 32
GOOD: dict[str, Any] = {
    "plan_digest": DIGEST,
    "batch_size": 32,
    "step_s": {0.2: 0.004, 0.05: 0.002},
    "multiply_adds": {0.2: 8_000_000, 0.05: 2_000_000},
    "baseline_bytes": 30_000_000,
}


def test_a_calibration_survives_the_store() -> None:
    calibration = Calibration(**GOOD)
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_speed_is_work_over_time() -> None:
    speeds = Calibration(**GOOD).speeds
    assert speeds == {0.2: pytest.approx(2e9), 0.05: pytest.approx(1e9)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"plan_digest": "short"}, "plan_digest"),
        ({"batch_size": 0}, "batch_size"),
        ({"baseline_bytes": -1}, "baseline_bytes"),
        ({"step_s": {0.2: 0.0, 0.05: 0.1}}, "step_s of 0.2"),
        ({"step_s": {0.2: float("inf"), 0.05: 0.1}}, "step_s of 0.2"),
        ({"step_s": {0.2: 0.1}}, "same levels"),
        ({"step_s": {}, "multiply_adds": {}}, "at least one"),
        ({"step_s": {2.0: 0.1}, "multiply_adds": {2.0: 1}}, r"not in \(0, 1\]"),
        ({"multiply_adds": {0.2: 0, 0.05: 1}}, "multiply_adds of 0.2"),
    ],
)
def test_an_impossible_calibration_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Calibration(**(GOOD | change))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", '{"version": 99}', "[" * 100_000,
        json.dumps({"version": 1, "plan_digest": DIGEST, "batch_size": 32, "levels": [[1]],
                    "baseline_bytes": 0}),
        Calibration(**GOOD).to_json().replace("0.004", "NaN"),
    ],
)  # fmt: skip
def test_a_damaged_store_asks_to_measure_again(text: str) -> None:
    with pytest.raises(DataError, match="measure again"):
        Calibration.from_json(text)


def test_a_calibration_covers_only_what_it_measured() -> None:
    calibration = Calibration(**GOOD)
    assert calibration.covers(DIGEST, 32, (0.2, 0.05))
    assert calibration.covers(DIGEST, 32, (0.05,))
    assert not calibration.covers(DIGEST, 32, (0.2, 0.1))
    assert not calibration.covers(DIGEST, 16, (0.2,))
    assert not calibration.covers("cd" * 32, 32, (0.2,))
