"""A step's calls, timed one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.bench.case import Case, kept_at, read_case, write_case
from edge_client.bench.inputs import read_inputs, write_inputs
from edge_client.bench.profile import CallTime, grouped, profile_step
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.errors import DataError
from fedsparse.plan.zoo import digits_plan

PLAN = digits_plan()
CASE = Case(kept=kept_at(PLAN, 0.1), batch_size=4)


def drawn(folder: Path) -> Path:
    write_case(folder, PLAN, CASE)
    write_inputs(folder)
    return folder


def test_a_case_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    assert read_case(folder) == (PLAN, CASE)
    inputs = read_inputs(folder, PLAN, CASE)
    assert inputs.mask.sum() == sum(CASE.kept) == inputs.weights.prunable.size
    assert inputs.samples.shape == (CASE.batches, 4, 1, 8, 8)
    assert 0 <= inputs.targets.min() <= inputs.targets.max() < 10


def test_a_folder_without_a_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no case"):
        read_case(tmp_path)


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_every_call_is_timed_and_the_result_is_that_of_an_untimed_step(
    tmp_path: Path, micro_batch: int
) -> None:
    inputs = read_inputs(drawn(tmp_path), PLAN, CASE)
    setup = EngineSetup(micro_batch=micro_batch)
    calls = profile_step(PLAN, CASE, inputs, setup=setup, steps=3)
    kernels = [call.kernel for call in calls]
    assert kernels.count("sgd") == 8  # weights and biases of four layers
    assert {call.node for call in calls} >= {"conv1", "conv2", "fc1", "fc2", "max_pool"}
    assert all(call.seconds > 0 for call in calls)
    of_samples = [call for call in calls if call.multiply_adds]
    assert {call.calls for call in of_samples} == {4 // micro_batch}

    engines = [
        SparseEngine(
            PLAN, inputs.mask, inputs.weights, batch_size=4, setup=setup, momentum=0.9,
            library=library,
        )
        for library in (None, TimedLibrary())
    ]  # fmt: skip
    for engine in engines:
        engine.train_step(inputs.samples[0], inputs.targets[0], learning_rate=0.1)
    plain, timed = (engine.weights().prunable for engine in engines)
    np.testing.assert_array_equal(plain, timed)


def test_groups_add_up_to_the_step(tmp_path: Path) -> None:
    inputs = read_inputs(drawn(tmp_path), PLAN, CASE)
    calls = profile_step(PLAN, CASE, inputs, steps=2)

    def by_kernel(call: CallTime) -> tuple[str, str]:
        return call.kernel, ""

    groups = grouped(calls, by_kernel)
    assert sum(one.seconds for one in groups) == pytest.approx(sum(one.seconds for one in calls))
    assert sum(one.calls for one in groups) == len(calls)
    assert [one.seconds for one in groups] == sorted((o.seconds for o in groups), reverse=True)
