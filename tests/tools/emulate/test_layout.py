"""The files of a run: what fleet.toml says of samples and budgets is what devices and job get."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from fleet_files import GOOD, fleet_from, fleet_with

from edge_client.emulation.scale import TimeScale
from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig
from tools.emulate.devices import devices_of_fleet
from tools.emulate.fleet_file import Fleet
from tools.emulate.layout import Layout, lay_out, write_client

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCALE = TimeScale(factor=1.0)


def laid_out(fleet: Fleet, output: Path) -> Layout:
    output.mkdir()
    return lay_out(fleet, output, SCALE, BrokerConfig(), late=0, say=lambda _: None)


def arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return file["x"], file["y"]


def scored_on(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    return arrays(Path(tomllib.loads(layout.job_file.read_text())["test_data"]))


def rows(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    """Each sample with its label, as bytes."""
    return [one.tobytes() + label.tobytes() for one, label in zip(x, y, strict=True)]


def test_the_gateway_scores_on_so_many_samples_drawn_from_all_of_them(tmp_path: Path) -> None:
    whole = rows(*scored_on(laid_out(fleet_from(tmp_path), tmp_path / "all")))
    fleet = fleet_with(tmp_path, "rounds = 3", "rounds = 3\ntest_samples = 20")
    x, y = scored_on(laid_out(fleet, tmp_path / "cut"))
    kept = rows(x, y)
    places = [whole.index(one) for one in kept]  # with their own labels
    assert len(kept) == 20
    assert places == sorted(places)
    assert places[-1] > len(whole) // 2  # not the first ones, which may be of few classes
    again = scored_on(laid_out(fleet, tmp_path / "again"))
    assert rows(*again) == kept
    more = fleet_with(tmp_path, "rounds = 3", "rounds = 3\ntest_samples = 1000000")
    assert rows(*scored_on(laid_out(more, tmp_path / "more"))) == whole


def test_a_device_keeps_its_share_of_samples_the_same_in_every_run(tmp_path: Path) -> None:
    whole = laid_out(fleet_from(tmp_path), tmp_path / "all")
    fleet = fleet_with(tmp_path, "count = 2", "count = 2\ndata_share = 0.5")
    first, again = (laid_out(fleet, tmp_path / name) for name in ("first", "again"))
    for device in fleet.devices:
        all_of_it, kept = (rows(*arrays(one.samples[device])) for one in (whole, first))
        share = 1.0 if device == "shelf" else 0.5
        assert len(kept) == round(share * len(all_of_it))
        assert set(kept) <= set(all_of_it)
        assert rows(*arrays(again.samples[device])) == kept


def test_a_share_that_leaves_no_two_samples_is_refused_with_the_device(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, "count = 2", "count = 2\ndata_share = 0.001")
    with pytest.raises(ConfigError, match=r"data_share 0.001 leaves device-\S* [01] of "):
        laid_out(fleet, tmp_path / "run")


def test_devices_have_so_many_samples_at_most_or_a_file_of_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros((3, 1, 8, 8), np.float32), y=np.zeros(3, np.int64))
    text = GOOD.replace("rounds = 3", "rounds = 3\nsamples = 30")
    fleet = fleet_from(tmp_path, text.replace("count = 2", 'count = 2\ndata = "mine.npz"'))
    layout = laid_out(fleet, tmp_path / "run")
    assert layout.samples["desk-1"] == layout.samples["desk-2"] == tmp_path / "mine.npz"
    assert len(arrays(layout.samples["shelf"])[1]) == 30


def test_a_client_may_take_the_share_of_memory_that_its_group_says(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, "count = 2", "count = 2\nmemory_fraction = 0.25")
    layout = laid_out(fleet, tmp_path / "run")
    shares = []
    for device in devices_of_fleet(fleet):
        path = write_client(layout, device, BrokerConfig(), SCALE, fleet.figures)
        shares.append(tomllib.loads(path.read_text())["budget"]["memory_fraction"])
    assert shares == [0.25, 0.25, 0.5]
