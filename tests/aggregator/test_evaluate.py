from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.evaluate import BATCH, Evaluator, load_test_set
from aggregator.models.weights import tensors_by_name
from fedsparse.errors import DataError, EngineError
from fedsparse.plan import Loss, Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.score import score
from fedsparse.types import Float32Array, Weights


def small_plan() -> Plan:
    model = PlanBuilder("small", (2, 5))
    model.conv("conv", 3, 2)
    model.relu()
    model.flatten()
    model.linear("fc", 3, prunable=False)
    return model.build()


PLAN = small_plan()


def random_weights(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights(
        prunable=rng.standard_normal(PLAN.num_prunable, np.float32),
        dense=rng.standard_normal(PLAN.num_dense, np.float32),
    )


def torch_logits(weights: Weights, samples: Float32Array) -> torch.Tensor:
    tensors = {k: torch.from_numpy(v).double() for k, v in tensors_by_name(PLAN, weights).items()}
    x = torch.from_numpy(samples).double()
    x = torch.nn.functional.conv1d(x, tensors["conv.weight"], tensors["conv.bias"]).relu()
    return x.flatten(1) @ tensors["fc.weight"].T + tensors["fc.bias"]


@settings(max_examples=20, deadline=None)
@given(
    count=st.sampled_from([1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3]),
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0, 1),
)
def test_loss_and_correct_predictions_are_torchs(count: int, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((count, 2, 5), np.float32)
    labels = rng.integers(0, 3, count)
    weights = random_weights(seed)
    mask = rng.random(PLAN.num_prunable) < density
    result = Evaluator(PLAN, samples, labels).evaluate(weights, mask)

    masked = Weights(prunable=weights.prunable * mask, dense=weights.dense)
    logits = torch_logits(masked, samples)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    assert result.count == count
    assert result.loss_sum == pytest.approx(float(loss), rel=1e-4, abs=1e-5)
    best = logits.sort(dim=1).values
    clear = (best[:, -1] - best[:, -2]) > 1e-4  # float32 may decide a tie otherwise
    hits = logits.argmax(1) == torch.from_numpy(labels)
    assert int((hits & clear).sum()) <= result.correct <= int((hits | ~clear).sum())


def test_one_evaluator_scores_many_weights() -> None:
    samples = np.random.default_rng(0).standard_normal((40, 2, 5), np.float32)
    labels = np.zeros(40, np.int64)
    evaluator = Evaluator(PLAN, samples, labels)
    first = evaluator.evaluate(random_weights(1))
    assert evaluator.evaluate(random_weights(2)) != first
    assert evaluator.evaluate(random_weights(1)) == first


def test_a_certain_and_wrong_prediction_has_a_finite_loss() -> None:
    weights = Weights(
        prunable=np.zeros(PLAN.num_prunable, np.float32),
        dense=np.zeros(PLAN.num_dense, np.float32),
    )
    weights.dense[-3:] = [0, 5000, 0]
    result = Evaluator(PLAN, np.zeros((1, 2, 5), np.float32), np.array([0])).evaluate(weights)
    assert (result.correct, result.loss_sum) == (0, 5000.0)


def test_a_diverged_model_is_said_to_be_one() -> None:
    weights = random_weights(0)
    weights.dense[-1] = np.inf
    evaluator = Evaluator(PLAN, np.zeros((1, 2, 5), np.float32), np.array([0]))
    with pytest.raises(EngineError, match="diverged"):
        evaluator.evaluate(weights)


GOOD_X, GOOD_Y = np.zeros((4, 2, 5), np.float16), np.array([0, 1, 2, 2], np.uint8)


def test_a_good_file_is_read_as_float32_and_int64(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=GOOD_X + 0.5, y=GOOD_Y, subject=np.zeros(4))
    x, y = load_test_set(tmp_path / "t.npz", PLAN)
    assert (x.dtype, y.dtype, y.tolist()) == (np.float32, np.int64, [0, 1, 2, 2])
    assert np.array_equal(x, np.full((4, 2, 5), 0.5, np.float32))
    assert Evaluator(PLAN, x, y).evaluate(random_weights(0)).count == 4


NAN_X = np.zeros((4, 2, 5))
NAN_X[2:, 1, 3] = np.nan
BROKEN = {
    "no x": (
        {"y": GOOD_Y},
        "the array 'x' is missing; it has y; expected numbers x .samples, 2, 5",
    ),
    "no y": ({"x": GOOD_X}, "the array 'y' is missing; it has x"),
    "nothing": ({}, "the array 'x' is missing; it has none"),
    "shape": ({"x": GOOD_X[:, :, 1:], "y": GOOD_Y}, r"x has shape \(4, 2, 4\); expected.*2, 5"),
    "transposed": ({"x": GOOD_X.transpose(0, 2, 1), "y": GOOD_Y}, r"shape \(4, 5, 2\)"),
    "scalar": ({"x": np.array(1.0), "y": GOOD_Y}, r"x has shape \(\)"),
    "text": ({"x": np.full((4, 2, 5), "a"), "y": GOOD_Y}, "x holds <U1"),
    "complex": ({"x": GOOD_X.astype(complex), "y": GOOD_Y}, "x holds complex128"),
    "objects": ({"x": np.full((4, 2, 5), None), "y": GOOD_Y}, "not a readable .npz.*Object arrays"),
    "empty": ({"x": GOOD_X[:0], "y": GOOD_Y[:0]}, "there are no samples"),
    "not finite": ({"x": NAN_X, "y": GOOD_Y}, "2 of 4 samples.*the first is sample 2"),
    "float labels": (
        {"x": GOOD_X, "y": GOOD_Y.astype(float)},
        "integers .*--loss mse",
    ),
    "one hot": ({"x": GOOD_X, "y": np.eye(4, 3, dtype=int)}, r"y has the shape \(4, 3\)"),
    "too few labels": (
        {"x": GOOD_X, "y": GOOD_Y[1:]},
        r"4 samples.* shape \(3,\)",
    ),
    "label too large": ({"x": GOOD_X, "y": GOOD_Y + 1}, "label 3 of sample 2 .*3 classes, 0 to 2"),
    "negative label": ({"x": GOOD_X, "y": GOOD_Y.astype(int) - 1}, "label -1 of sample 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_does_not_fit_is_refused_with_its_name_and_reason(
    case: str, tmp_path: Path
) -> None:
    arrays, reason = BROKEN[case]
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=reason) as caught:
        load_test_set(path, PLAN)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_missing_or_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with pytest.raises(DataError, match=r"t\.npz: no such file"):
        load_test_set(path, PLAN)
    for content in (b"", b"no archive", b"PK\x03\x04 but broken"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"t\.npz: not a readable .npz file"):
            load_test_set(path, PLAN)
    with path.open("wb") as file:
        np.save(file, GOOD_X)
    with pytest.raises(DataError, match=r"t\.npz: one array"):
        load_test_set(path, PLAN)


def test_an_evaluator_checks_what_it_is_given() -> None:
    with pytest.raises(DataError, match="test set: label 9 of sample 1"):
        Evaluator(PLAN, np.zeros((1, 2, 5), np.float32).repeat(2, 0), np.array([0, 9]))


@pytest.mark.parametrize("loss", [Loss.MSE, Loss.BCE])
def test_a_test_set_of_numbers_is_scored_by_its_own_loss(loss: Loss, tmp_path: Path) -> None:
    plan = replace(PLAN, loss=loss)
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((300, 2, 5)), rng.integers(0, 2, (300, 3))
    np.savez(tmp_path / "t.npz", x=x, y=y)
    result = Evaluator(plan, *load_test_set(tmp_path / "t.npz", plan)).evaluate(random_weights(4))
    outputs = torch_logits(random_weights(4), x.astype(np.float32))
    expected = score(loss, [(outputs.numpy(), y.astype(np.float32))])
    assert (result.correct, result.count) == (expected.correct, expected.count)
    assert result.loss_sum == pytest.approx(expected.loss_sum, rel=1e-4)
    np.savez(tmp_path / "t.npz", x=x, y=y[:, :2])
    with pytest.raises(DataError, match=r"t\.npz: 300 samples in x but y has the shape"):
        load_test_set(tmp_path / "t.npz", plan)
