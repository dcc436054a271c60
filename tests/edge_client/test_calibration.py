from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.calibration import Calibration, LayerTiming, LevelTiming
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import DataError

DIGEST = "ab" * 32
LAYERS = {
    "a.weight": LayerTiming(kept=100, sparse_s=0.002, dense_s=0.003),
    "b.weight": LayerTiming(kept=50, sparse_s=0.004, dense_s=0.003),
}


def timing(**changes: Any) -> LevelTiming:  # noqa: ANN401
    fields: dict[str, Any] = {
        "step_s": {32: 0.004, 16: 0.005, 8: 0.012},
        "multiply_adds": 8_000_000,
        "engine": "sparse",
        "threads": 2,
        "shared_work": 600_000,
        "layers": LAYERS,
        "evolve_s": 0.03,
    }
    return LevelTiming(**(fields | changes))


GOOD: dict[str, Any] = {
    "plan_digest": DIGEST,
    "batch_size": 32,
    "levels": {0.2: timing(), 0.05: timing(step_s={32: 0.002}, multiply_adds=2_000_000)},
    "baseline_bytes": 30_000_000,
}


def test_a_calibration_survives_the_store() -> None:
    calibration = Calibration(**GOOD)
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_speed_is_the_work_of_a_whole_batch_over_its_time() -> None:
    speeds = Calibration(**GOOD).speeds
    assert speeds == {0.2: pytest.approx(2e9), 0.05: pytest.approx(1e9)}


def test_a_setup_takes_the_kernels_that_were_faster() -> None:
    setup = timing().setup({"a.weight": 100, "b.weight": 50}, 8)
    expected = {"dense_layers": ("b.weight",), "threads": 2, "shared_work": 600_000}
    assert setup == EngineSetup(micro_batch=8, **expected)


def test_sparse_kernels_take_time_in_proportion_to_what_is_kept_now() -> None:
    """A layer's density may have changed since it was timed: half as much again breaks even."""
    kept = {"a.weight": 151, "b.weight": 37}
    assert timing().setup(kept, 32).dense_layers == ("a.weight",)
    assert timing().setup(kept | {"a.weight": 150}, 32).dense_layers == ()


@given(
    sparse_s=st.floats(1e-6, 1), dense_s=st.floats(1e-6, 1), kept=st.integers(0, 10**6),
    then=st.integers(0, 10**6), more=st.integers(0, 10**6),
)  # fmt: skip
def test_a_layer_that_keeps_more_never_goes_back_to_sparse_kernels(
    sparse_s: float, dense_s: float, kept: int, then: int, more: int
) -> None:
    layer = LayerTiming(kept=then, sparse_s=sparse_s, dense_s=dense_s)
    assert layer.prefers_dense(kept + more) >= layer.prefers_dense(kept)


def test_a_micro_batch_slows_a_step_by_what_was_measured() -> None:
    assert [timing().slowdown(size) for size in (32, 16, 8)] == [1, 1.25, 3]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"step_s": {32: 0.0}}, "positive"),
        ({"step_s": {32: float("inf")}}, "positive"),
        ({"step_s": {}}, "positive"),
        ({"step_s": {32: 0.004, 16: 0.003}}, "must not fall"),
        ({"step_s": {0: 0.004}}, "micro-batch"),
        ({"multiply_adds": 0}, "no work"),
        ({"threads": 0}, "threads"),
        ({"engine": "steam"}, "steam"),
    ],
)
def test_an_impossible_timing_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        timing(**change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"plan_digest": "short"}, "plan_digest"),
        ({"batch_size": 0}, "batch_size"),
        ({"baseline_bytes": -1}, "baseline_bytes"),
        ({"levels": {}}, "at least one"),
        ({"levels": {2.0: timing()}}, r"not in \(0, 1\]"),
        ({"batch_size": 64}, "whole batch"),
    ],
)
def test_an_impossible_calibration_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Calibration(**(GOOD | change))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", '{"version": 99}', "[" * 100_000, '{"version": 2, "levels": 3}',
        json.dumps({"version": 2, "plan_digest": DIGEST, "batch_size": 32, "levels": [[1]],
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
