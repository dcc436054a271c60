from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.models.weights import from_tensors, load_weights, save_weights, tensors_by_name
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.types import Weights


def small_plan() -> Plan:
    model = PlanBuilder("small", (2, 5))
    model.conv("a", 3, 2)
    model.batch_norm("b")
    model.flatten()
    model.linear("c", 2, prunable=False)
    return model.build()


PLAN = small_plan()


def numbered() -> Weights:
    return Weights(
        prunable=np.arange(PLAN.num_prunable, dtype=np.float32),
        dense=np.arange(PLAN.num_dense, dtype=np.float32) + 100,
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_vectors_to_tensors_and_back_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = Weights(
        prunable=rng.standard_normal(PLAN.num_prunable, np.float32),
        dense=rng.standard_normal(PLAN.num_dense, np.float32),
    )
    again = from_tensors(PLAN, tensors_by_name(PLAN, weights))
    assert np.array_equal(again.prunable, weights.prunable)
    assert np.array_equal(again.dense, weights.dense)


def test_tensors_lie_in_plan_order() -> None:
    tensors = tensors_by_name(PLAN, numbered())
    assert tensors["a.weight"].ravel().tolist() == list(range(12))
    assert tensors["a.bias"].tolist() == [100, 101, 102]
    assert tensors["b.running_var"].tolist() == [112, 113, 114]
    assert tensors["c.bias"].tolist() == [100 + 15 + 24, 100 + 15 + 25]


def test_tensors_are_copies() -> None:
    weights = numbered()
    tensors_by_name(PLAN, weights)["a.weight"][:] = -1
    assert weights.prunable.tolist() == list(range(12))


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.npz"
    save_weights(path, tensors_by_name(PLAN, numbered()) | {"spare": np.zeros(3, np.float32)})
    weights = load_weights(path, PLAN)
    assert np.array_equal(weights.prunable, numbered().prunable)
    assert np.array_equal(weights.dense, numbered().dense)
    assert [file.name for file in path.parent.iterdir()] == ["weights.npz"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"w\.npz: cannot be written"):
        save_weights(tmp_path / "file" / "w.npz", {})


def without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tensors_by_name(PLAN, numbered()).items() if key != name}


BROKEN = {
    "missing": (without("a.bias"), r"'a.bias' \(3,\) is missing; it has a.weight"),
    "shape": (without("a.bias") | {"a.bias": np.zeros(4)}, r"'a.bias' has shape \(4,\)"),
    "nan": (without("a.bias") | {"a.bias": np.array([0, np.nan, 0])}, "'a.bias'.*finite"),
    "text": (without("a.bias") | {"a.bias": np.array(["x"] * 3)}, "'a.bias'.*floating-point"),
    "objects": (without("a.bias") | {"a.bias": np.array([{}] * 3)}, "Object arrays"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_tensor_that_does_not_fit_is_named(case: str, tmp_path: Path) -> None:
    tensors, reason = BROKEN[case]
    path = tmp_path / "w.npz"
    np.savez(path, **tensors)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_weights(path, PLAN)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    with pytest.raises(ConfigError, match="no such file"):
        load_weights(path, PLAN)
    for content in (b"", b"not an archive", b"PK\x03\x04 but broken"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"not a readable \.npz file"):
            load_weights(path, PLAN)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ConfigError, match="one array"):
        load_weights(path, PLAN)
