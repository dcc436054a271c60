from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.data.samples import load_samples
from fedsparse.errors import DataError
from fedsparse.plan.builder import PlanBuilder
from tools.datasets.dataset import Request
from tools.datasets.dirichlet import dirichlet_shards
from tools.datasets.prepare import Prepared, prepare
from tools.datasets.registry import DATASETS, find_dataset

SHIPPED = {"watch": 8, "digits": 5}


def load(prepared: Prepared, path: Path) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    model = PlanBuilder("any", prepared.input_shape)
    model.flatten()
    model.linear("last", prepared.classes)
    return load_samples(path, model.build())


@pytest.mark.parametrize(("name", "devices"), SHIPPED.items())
def test_a_device_can_load_what_was_prepared(tmp_path: Path, name: str, devices: int) -> None:
    prepared = prepare(name, tmp_path / "out", devices)
    assert len(prepared.devices) == devices
    for path, count in zip(prepared.devices, prepared.samples, strict=True):
        assert len(load(prepared, path)[1]) == count
    assert len(load(prepared, prepared.test)[1]) == prepared.test_samples


@pytest.mark.parametrize(("name", "devices"), SHIPPED.items())
def test_one_seed_writes_the_same_bytes_and_another_does_not(
    tmp_path: Path, name: str, devices: int
) -> None:
    def written(folder: str, seed: int) -> dict[str, bytes]:
        prepare(name, tmp_path / folder, devices, seed)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / folder).iterdir())}

    first = written("a", 3)
    assert first == written("b", 3)
    assert first != written("c", 4)


@pytest.mark.parametrize(("name", "devices"), SHIPPED.items())
def test_the_devices_samples_are_normalised_per_channel(
    tmp_path: Path, name: str, devices: int
) -> None:
    prepared = prepare(name, tmp_path, devices)
    x = np.concatenate([load(prepared, path)[0] for path in prepared.devices])
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(x.mean(axis=axes, dtype=np.float64), 0, atol=1e-3)
    np.testing.assert_allclose(x.std(axis=axes, dtype=np.float64), 1, atol=2e-3)


def test_two_people_are_on_no_device(tmp_path: Path) -> None:
    prepared = prepare("watch", tmp_path, 8, seed=1)
    trained = {int(holder.split()[1]) for holder in prepared.holders}
    assert len(trained) == 8
    assert sum(prepared.samples) + prepared.test_samples == 4677
    everything = np.concatenate(
        [load(prepared, path)[0] for path in (*prepared.devices, prepared.test)]
    )
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == len(
        np.unique(everything.reshape(4677, -1), axis=0)
    )
    assert prepared.input_shape == (6, 100)


def test_the_seed_draws_the_test_people(tmp_path: Path) -> None:
    holders = {prepare("watch", tmp_path, 8, seed=seed).holders for seed in range(4)}
    assert len(holders) > 1


def test_fewer_watches_leave_people_out_and_nine_are_refused(tmp_path: Path) -> None:
    assert len(prepare("watch", tmp_path, 3).devices) == 3
    with pytest.raises(DataError, match="at most 8 devices, 9 were asked for"):
        prepare("watch", tmp_path, 9)


def test_fewer_devices_do_not_leave_files_of_an_earlier_run(tmp_path: Path) -> None:
    prepare("digits", tmp_path, 6)
    prepared = prepare("digits", tmp_path, 2)
    assert sorted(tmp_path.glob("device-*.npz")) == list(prepared.devices)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_device_gets_no_more_samples_than_asked_for(tmp_path: Path, name: str) -> None:
    assert prepare(name, tmp_path, 2, samples=20).samples == (20, 20)


def test_the_description_holds_what_a_model_needs(tmp_path: Path) -> None:
    prepare("digits", tmp_path, 2)
    document = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert document["input_shape"] == [1, 8, 8]
    assert document["classes"] == len(document["class_names"]) == 10
    assert document["devices"] == ["device-00.npz", "device-01.npz"]
    assert len(document["mean"]) == 1


@settings(max_examples=40)
@given(
    devices=st.integers(1, 12),
    alpha=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 10),
)
def test_shards_are_disjoint_and_equal(devices: int, alpha: float, seed: int, classes: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, 240)
    shards = dirichlet_shards(labels, request(devices, alpha, seed))
    assert {len(shard) for shard in shards} == {240 // devices}
    dealt = np.concatenate(shards)
    assert len(np.unique(dealt)) == len(dealt)


def request(devices: int, alpha: float, seed: int = 0) -> Request:
    return Request(devices=devices, seed=seed, alpha=alpha, cache=Path("unused"))


def test_a_small_alpha_concentrates_classes() -> None:
    labels = np.arange(4000) % 10

    def largest_share(alpha: float) -> float:
        shards = dirichlet_shards(labels, request(5, alpha))
        return float(np.mean([np.bincount(labels[shard]).max() / len(shard) for shard in shards]))

    assert largest_share(0.05) > 0.4
    assert largest_share(1000.0) < 0.15


def test_more_devices_than_samples_are_refused() -> None:
    with pytest.raises(DataError, match="3 samples cannot be divided among 4 devices"):
        dirichlet_shards(np.arange(3), request(4, 0.5))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"devices": 0}, "devices must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"samples": 0}, "samples must be at least 1"),
    ],
)
def test_an_impossible_division_is_refused(change: dict[str, float], complaint: str) -> None:
    arguments = {"devices": 1, "seed": 0, "alpha": 0.5, "cache": Path("unused")} | change
    with pytest.raises(DataError, match=complaint):
        Request(**arguments)  # type: ignore[arg-type]


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    assert set(DATASETS) == {"watch", "digits", "mnist", "cifar10"}
    with pytest.raises(DataError, match="did you mean 'watch'"):
        find_dataset("watches")
    with pytest.raises(DataError, match="there are watch, digits"):
        find_dataset("zebra")
