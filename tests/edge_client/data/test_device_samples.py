from __future__ import annotations

import contextlib
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.data.holdout import holdout_sizes
from edge_client.data.samples import batches, load_samples, split_holdout
from fedsparse.errors import DataError
from fedsparse.plan import Loss, Plan
from fedsparse.plan.builder import PlanBuilder

SHAPE = (2, 3)
CLASSES = 4


def plan(outputs: int = CLASSES, loss: Loss = Loss.CROSS_ENTROPY) -> Plan:
    model = PlanBuilder("mine", SHAPE)
    model.flatten()
    model.linear("last", outputs)
    return model.build(loss=loss)


PLAN = plan()


def good() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(10, *SHAPE)), "y": np.arange(10) % CLASSES}


def save(folder: Path, **arrays: npt.NDArray[Any]) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("label", ["uint8", "int16", "int64", "uint64"])
def test_samples_of_every_type_become_float32_and_int64(
    tmp_path: Path, kind: str, label: str
) -> None:
    x = np.abs(good()["x"] * 10).astype(kind)
    path = save(tmp_path, x=x, y=good()["y"].astype(label))
    samples, labels = load_samples(path, PLAN)
    assert (samples.dtype, labels.dtype) == (np.float32, np.int64)
    assert samples.flags.c_contiguous
    np.testing.assert_array_equal(samples, x.astype(np.float32))
    np.testing.assert_array_equal(labels, good()["y"])


def test_a_transposed_array_is_laid_out_anew(tmp_path: Path) -> None:
    x = np.asfortranarray(good()["x"])
    samples, _ = load_samples(save(tmp_path, x=x, y=good()["y"]), PLAN)
    assert samples.flags.c_contiguous
    np.testing.assert_allclose(samples, x, rtol=1e-6)


def with_value(value: float, dtype: str = "float64") -> npt.NDArray[Any]:
    x = good()["x"].astype(dtype)
    x[7, 1, 2] = value
    x[8, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x": np.zeros((10, 3, 2))}, r"x has the shape \(10, 3, 2\).*\(samples, 2, 3\)"),
        ({"x": np.zeros((10, 6))}, r"x has the shape \(10, 6\)"),
        ({"x": np.zeros(())}, r"x has the shape \(\)"),
        ({"x": np.zeros((0, *SHAPE)), "y": np.zeros(0, int)}, "no samples"),
        ({"y": np.zeros(9, int)}, r"10 samples in x but y has the shape \(9,\)"),
        ({"y": np.zeros((10, 1), int)}, r"y has the shape \(10, 1\)"),
        ({"y": np.zeros(10)}, "y is float64; labels must be integers"),
        ({"y": np.array(["a"] * 10)}, "labels must be integers"),
        ({"y": np.arange(10)}, "label 4 of sample 4 is out of range.*0 to 3.*6 such"),
        ({"y": np.arange(10) % 4 - 1}, "label -1 of sample 0 is out of range"),
        ({"y": np.full(10, 2**63, np.uint64)}, "label 9223372036854775808 of sample 0"),
        ({"x": with_value(np.nan)}, "2 values that are NaN, infinite.*first in sample 7"),
        ({"x": with_value(-np.inf)}, "2 values"),
        ({"x": with_value(1e300)}, "beyond float32, the first in sample 7"),
        ({"x": np.zeros((10, *SHAPE), complex)}, "x is complex128; it must be one of float16"),
        ({"x": np.zeros((10, *SHAPE), np.int64)}, "x is int64"),
        ({"x": np.array([[[None] * 3] * 2] * 10)}, "not a readable .npz archive of plain arrays"),
    ],
)
def test_bad_samples_are_named_with_their_file(
    tmp_path: Path, change: dict[str, npt.NDArray[Any]], complaint: str
) -> None:
    path = save(tmp_path, **(good() | change))
    with pytest.raises(DataError, match=complaint) as caught:
        load_samples(path, PLAN)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("kind", ["float16", "float64", "int32", "uint8"])
def test_targets_of_numbers_become_float32(tmp_path: Path, kind: str) -> None:
    y = (10 * np.random.default_rng(1).random((10, 3))).astype(kind)
    _, targets = load_samples(save(tmp_path, x=good()["x"], y=y), plan(3, Loss.MSE))
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, y.astype(np.float32))


def test_targets_of_one_output_may_lack_its_axis(tmp_path: Path) -> None:
    path = save(tmp_path, x=good()["x"], y=np.arange(10) % 2 == 1)
    _, targets = load_samples(path, plan(1, Loss.BCE))
    np.testing.assert_array_equal(targets, np.array([[0], [1]] * 5, np.float32))


@pytest.mark.parametrize(
    ("loss", "y", "complaint"),
    [
        (Loss.MSE, np.zeros(10), r"y has the shape \(10,\), not \(10, 3\): the loss 'mse' wants"),
        (Loss.MSE, np.zeros((9, 3)), r"10 samples in x but y has the shape \(9, 3\)"),
        (Loss.BCE, np.zeros((10, 3, 1)), r"y has the shape \(10, 3, 1\), not \(10, 3\)"),
        (Loss.MSE, np.full((10, 3), "a"), "the loss 'mse' wants numbers"),
        (Loss.MSE, np.full((10, 3), 1j), "y is complex128; the loss 'mse' wants numbers"),
        (Loss.MSE, np.full((10, 3), 1e300), "target 1e.300 of sample 0, output 0 is not a finite"),
        (Loss.MSE, np.eye(10, 3) * np.nan + 1, r"sample 0, output 0 .*\(30 such targets\)"),
        (Loss.BCE, np.eye(10, 3) / 2, r"target 0.5 of sample 0, output 0 is not 0 or 1.*\(3 such"),
        (Loss.BCE, np.arange(30).reshape(10, 3), "target 2 of sample 0, output 2"),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_named(
    tmp_path: Path, loss: Loss, y: npt.NDArray[Any], complaint: str
) -> None:
    path = save(tmp_path, x=good()["x"], y=y)
    with pytest.raises(DataError, match=complaint) as caught:
        load_samples(path, plan(3, loss))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_missing_array_is_named_beside_what_was_found(tmp_path: Path, missing: str) -> None:
    arrays = {("other" if key == missing else key): value for key, value in good().items()}
    with pytest.raises(DataError, match=f"no array '{missing}'.*other"):
        load_samples(save(tmp_path, **arrays), PLAN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: no such file"):
        load_samples(tmp_path / "nowhere.npz", PLAN)


def test_a_folder_is_no_file_of_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_samples(tmp_path, PLAN)


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, good()["x"])
    with pytest.raises(DataError, match=r"one array, not an \.npz archive"):
        load_samples(path, PLAN)


def test_every_truncation_of_a_file_is_a_data_error(tmp_path: Path) -> None:
    whole = save(tmp_path, **good()).read_bytes()
    path = tmp_path / "cut.npz"
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.npz"):
            load_samples(path, PLAN)


def test_a_damaged_member_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 1, }  ")
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match=r"damaged\.npz"):
        load_samples(path, PLAN)


@given(count=st.integers(1, 500), share=st.floats(0, 0.999), seed=st.integers(0, 2**32))
def test_training_and_holdout_share_the_samples_out(count: int, share: float, seed: int) -> None:
    trained, held_out = split_holdout(count, share, seed)
    assert (len(trained), len(held_out)) == holdout_sizes(count, share)
    assert len(trained) >= 1
    assert abs(len(held_out) - share * count) <= 1
    assert sorted([*trained, *held_out]) == list(range(count))
    again, _ = split_holdout(count, share, seed)
    np.testing.assert_array_equal(trained, again)


def test_another_seed_holds_out_other_samples() -> None:
    assert not np.array_equal(split_holdout(100, 0.3, 1)[1], split_holdout(100, 0.3, 2)[1])


def test_no_samples_cannot_be_split() -> None:
    with pytest.raises(DataError, match="no samples"):
        split_holdout(0, 0.1, 0)


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 99))
def test_an_epoch_yields_each_chosen_sample_once(count: int, batch_size: int, seed: int) -> None:
    x = np.arange(80, dtype=np.float32).reshape(80, 1)
    y = np.arange(80)
    indices = np.random.default_rng(seed).permutation(80)[:count]
    found = list(batches(x, y, indices, batch_size=batch_size, rng=random.Random(seed)))
    assert all(len(labels) == batch_size for _, labels in found[:-1])
    assert 1 <= len(found[-1][1]) <= batch_size
    assert sorted(int(label) for _, labels in found for label in labels) == sorted(indices)
    for samples, labels in found:
        np.testing.assert_array_equal(samples[:, 0], labels)


def test_a_lone_last_sample_can_be_left_out() -> None:
    x, y = np.zeros((9, 1), np.float32), np.arange(9)
    found = batches(x, y, y, batch_size=4, rng=random.Random(0), least=2)
    assert [len(labels) for _, labels in found] == [4, 4]


def test_each_epoch_has_its_own_order() -> None:
    x, y, rng = np.zeros((50, 1), np.float32), np.arange(50), random.Random(0)
    first, second = (
        np.concatenate([labels for _, labels in batches(x, y, y, batch_size=8, rng=rng)])
        for _ in range(2)
    )
    assert not np.array_equal(first, second)


@given(where=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused_as_data(
    tmp_path_factory: pytest.TempPathFactory, where: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(save(folder, **good()).read_bytes())
    content[where % len(content)] = byte
    path = folder / "changed.npz"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        samples, labels = load_samples(path, PLAN)
        assert np.isfinite(samples).all()
        assert labels.max() < CLASSES
