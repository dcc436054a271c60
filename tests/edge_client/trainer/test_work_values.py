"""How a trained model's values go back: exactly, or as a change that loses nothing for good."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_client.trainer.work import (
    Progress,
    Received,
    Residual,
    Result,
    Trained,
    encode_result,
    keeps_residual,
)
from fedsparse.errors import EngineError, LocalProtocolError, RemoteProtocolError
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of, random_mask
from fedsparse.sparsity.packing import mask_digest
from fedsparse.sparsity.values import carry_over, decode_values, encode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import F16, F32, I8
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Part, Stage, Task


def two_layers() -> PlanBuilder:
    builder = PlanBuilder("two", (20,))
    builder.linear("first", 30)
    builder.relu()
    builder.linear("last", 5)
    return builder


PLAN = two_layers().build()
COUNTS = (60, 15)
RNG = np.random.default_rng(0)
MASK = random_mask(PLAN, COUNTS, RNG)
BEFORE = Weights(
    prunable=RNG.standard_normal(75, np.float32), dense=RNG.standard_normal(35, np.float32)
)


def moved(by: float, seed: int, before: Float32Array = BEFORE.prunable) -> Weights:
    """What training makes of values."""
    rng = np.random.default_rng(seed)
    step = rng.standard_normal(before.size, np.float32) * np.float32(by)
    return Weights(prunable=before + step, dense=BEFORE.dense + np.float32(by))


def task(
    up: str, down: str = F32, *, evolve: bool = False, round_id: int = 1
) -> tuple[Task, bytes]:
    values = encode_values(BEFORE, down, COUNTS)
    made = Task(
        job="job",
        round_id=round_id,
        attempt=0,
        stage=Stage.TRAIN,
        plan_digest=PLAN.digest,
        parts=(Part(name="values", codec=down, size=len(values)),),
        mask_digest=mask_digest(PLAN.digest, MASK),
        level=0.1,
        seed=7,
        evolve=evolve,
        values_codec=up,
        error_feedback=up == I8,
    )
    return made, values


def result_of(
    task: Task,
    values: bytes,
    weights: Weights,
    mask: BoolArray = MASK,
    residual: Residual | None = None,
) -> Result:
    trained = Trained(mask=mask, weights=weights, evaluation=None, progress=Progress())
    received = Received(mask=MASK, values=lambda: values)
    return encode_result(PLAN, task, received, trained, residual)


def sent(result: Result, mask: BoolArray = MASK) -> tuple[Part, Weights]:
    part, data = split_parts(result.parts, result.body)["values"]
    return part, decode_values(part.codec, data, counts_of(PLAN, mask), PLAN.num_dense)


def test_exact_values_go_back_as_they_are_and_what_came_is_not_read_again() -> None:
    asked, _ = task(F32)
    trained = Trained(mask=MASK, weights=moved(0.1, 1), evaluation=None, progress=Progress())

    def again() -> bytes:
        raise AssertionError("what came is read again")

    result = encode_result(PLAN, asked, Received(mask=MASK, values=again), trained)
    part, weights = sent(result)
    assert (part.codec, part.base) == (F32, "")
    assert weights.prunable.tobytes() == trained.weights.prunable.tobytes()
    assert result.residual is None


@pytest.mark.parametrize(
    ("up", "down"), [(F32, F16), (F32, I8), *itertools.product([F16, I8], [F32, F16, I8])]
)
def test_a_change_is_of_the_values_that_came_and_rounded_by_its_own_size(
    up: str, down: str
) -> None:
    asked, values = task(up, down)
    before = decode_values(down, values, COUNTS, PLAN.num_dense)
    after = moved(1e-3, 2, before.prunable)
    part, change = sent(result_of(asked, values, after))
    assert (part.codec, part.base) == (up, hashlib.sha256(values).hexdigest())
    assert change.dense.tobytes() == after.dense.tobytes()
    error = np.abs(change.prunable - (after.prunable - before.prunable)).max()
    assert error <= {F32: 0.0, F16: 4e-6, I8: 4e-3 / 127}[up]
    assert np.abs(change.prunable).max() > 1e-3


@pytest.mark.parametrize("up", [F16, I8])
def test_where_a_mask_grew_the_value_before_was_nought(up: str) -> None:
    asked, values = task(up, evolve=True)
    kept = moved(0.01, 3)
    mask, grown = drop_and_grow(PLAN, MASK, kept.prunable, 0.3, np.random.default_rng(4))
    grown = grown + np.float32(0.5)  # trained on
    result = result_of(asked, values, Weights(prunable=grown, dense=kept.dense), mask)
    assert result.mask_digest == mask_digest(PLAN.digest, mask)
    _, change = sent(result, mask)
    new = ~MASK[mask]
    assert new.sum() > 10
    np.testing.assert_allclose(change.prunable[new], grown[new], atol=0.6 / 127)
    assert np.abs(carry_over(BEFORE.prunable, MASK, mask) + change.prunable - grown).max() < 6e-3


def test_what_was_sent_and_what_is_kept_add_up_to_what_was_trained() -> None:
    residual, wanted_sum, sent_sum = None, np.zeros(75), np.zeros(75)
    largest = 0.0
    for round_id in range(1, 40):
        asked, values = task(I8, round_id=round_id)
        assert keeps_residual(asked)
        after = moved(10.0 ** -(round_id / 15), round_id)
        result = result_of(asked, values, after, residual=residual)
        wanted_sum += after.prunable - BEFORE.prunable
        sent_sum += sent(result)[1].prunable
        assert result.residual is not None
        residual = result.residual
        largest = max(largest, np.abs(after.prunable).max())
        np.testing.assert_allclose(sent_sum + residual.values, wanted_sum, atol=3e-6)
    assert residual is not None
    assert 0 < np.abs(residual.values).max() < 0.1 * largest


def test_without_the_residual_the_losses_of_many_rounds_add_up() -> None:
    """Else the test above would show nothing."""
    lost = np.zeros(75)
    for round_id in range(1, 40):
        asked, values = task(I8, round_id=round_id)
        asked = replace(asked, error_feedback=False)
        after = moved(1.0, round_id)
        result = result_of(asked, values, after)
        assert result.residual is None
        lost += after.prunable - BEFORE.prunable - sent(result)[1].prunable
    assert np.abs(lost).max() > 3.0 / 127


def test_a_residual_under_another_mask_is_added_where_both_keep() -> None:
    asked, values = task(I8)
    other = random_mask(PLAN, COUNTS, np.random.default_rng(9))
    residual = Residual(mask=other, values=np.full(75, 4.0, np.float32))
    _, change = sent(result_of(asked, values, BEFORE, residual=residual))
    assert np.array_equal(change.prunable > 2.0, other[MASK])
    assert not change.prunable[~other[MASK]].any()


def test_each_round_and_device_has_draws_of_its_own_and_they_come_again() -> None:
    asked, values = task(I8)
    one = result_of(asked, values, moved(0.1, 1)).body
    assert result_of(asked, values, moved(0.1, 1)).body == one
    for other in (replace(asked, round_id=2), replace(asked, seed=8)):
        assert result_of(other, values, moved(0.1, 1)).body != one


def test_saliency_goes_back_exactly() -> None:
    asked, values = task(I8)
    asked = replace(asked, stage=Stage.SENSE)
    assert asked.asks_saliency
    part, found = sent(result_of(asked, values, moved(0.1, 1)))
    assert (part.codec, part.base) == (F32, "")
    assert found.prunable.tobytes() == moved(0.1, 1).prunable.tobytes()


@pytest.mark.parametrize("stage", [Stage.SENSE, Stage.EVALUATE])
def test_only_training_loses_something(stage: Stage) -> None:
    asked, values = task(I8, evolve=True)
    asked = replace(asked, stage=stage)
    assert not keeps_residual(asked)
    result = result_of(asked, values, moved(0.1, 1))
    assert "values" not in [part.name for part in result.parts]
    assert result.residual is None


def test_what_cannot_be_sent_is_refused() -> None:
    after = moved(0.0, 0)
    for value, codec, error in (
        (np.inf, I8, EngineError),
        (7e4, F16, LocalProtocolError),
        (1.0, "f64", RemoteProtocolError),
    ):
        asked, values = task(codec)
        after.prunable[3] = value
        with pytest.raises(error):
            result_of(asked, values, after)


def test_rounding_at_random_does_not_import_numpys_generators() -> None:
    """They would cost a device megabytes, and time."""
    code = (
        "import random, sys\n"
        "import numpy as np\n"
        "before = 'numpy.random' in sys.modules\n"
        "import edge_client.trainer.train\n"
        "from fedsparse.sparsity.values import encode_values\n"
        "from fedsparse.types import Weights\n"
        "one = np.ones(3, np.float32)\n"
        "encode_values(Weights(prunable=one, dense=one), 'i8', (3,), random.Random(1).randbytes)\n"
        "assert ('numpy.random' in sys.modules) == before\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
