"""What large models send comes from the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_world import LEVELS, World, build_world, content_of

from aggregator import values_folder
from aggregator.job import MethodConfig
from aggregator.values_folder import ValuesFolder
from fedsparse.body import Bytes, File


def small_world(folder: Path, label: str, name: str) -> World:
    method = MethodConfig(name=name, levels=LEVELS[:2], sense_epochs=1, sense_devices=1, r_int=2)
    world = build_world(folder, label, method=method, rounds=3)
    world.add("big", 0.2, num_examples=3)
    world.add("small", 0.1, num_examples=11)
    return world


def test_few_values_stay_in_memory_and_many_go_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_folder, "IN_MEMORY_BYTES", 10)
    folder = ValuesFolder(tmp_path / "values")
    assert folder.keep(b"0123456789") == Bytes(b"0123456789")
    assert not (tmp_path / "values").exists()
    kept = folder.keep(b"0123456789a")
    assert isinstance(kept, File)
    assert kept.verify()
    assert kept.digest == Bytes(b"0123456789a").digest
    assert folder.keep(b"0123456789a") == kept
    folder.clear()
    assert list((tmp_path / "values").iterdir()) == []


@pytest.mark.parametrize("name", ["spdst", "nst"])
def test_a_job_is_the_same_to_the_bit_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    in_memory = small_world(tmp_path, "memory", name)
    in_memory.run()
    monkeypatch.setattr(values_folder, "IN_MEMORY_BYTES", 0)
    on_disk = small_world(tmp_path, "disk", name)
    on_disk.run()
    assert content_of(on_disk) == content_of(in_memory)
    assert list((on_disk.job.output / "values").glob("*.values"))
