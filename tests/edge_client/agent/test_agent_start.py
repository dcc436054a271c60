"""A device that cannot work does not start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.agent.main import run
from edge_client.config import ClientConfig, DataConfig
from fedsparse.errors import ConfigError, DataError
from tools.demo.toml_writer import to_toml


def test_a_device_without_samples_says_so_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 6), np.float32), y=np.zeros(0, np.int64))
    client = ClientConfig(
        device="d", site="s", store=tmp_path / "store", data=DataConfig(path=tmp_path / "none.npz")
    )
    (tmp_path / "client.toml").write_text(to_toml(client), encoding="utf-8")
    with pytest.raises(DataError, match=r"none\.npz: no samples"):
        run(tmp_path / "client.toml")


def test_a_profile_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((9, 6), np.float32), y=np.zeros(9, np.int64))
    client = ClientConfig(
        device="d",
        site="s",
        store=tmp_path / "store",
        data=DataConfig(path=tmp_path / "one.npz"),
        profile="boards/mine.toml",
    )
    (tmp_path / "client.toml").write_text(to_toml(client), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "client.toml")
    assert str(caught.value) == f"{tmp_path}/boards/mine.toml: no such file"
