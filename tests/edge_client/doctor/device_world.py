"""A device's files, and what its doctor says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_client.cli import main
from edge_client.config import ClientConfig, DataConfig
from fedsparse.transport.config import BrokerConfig
from tools.demo.toml_writer import to_toml


class Device:
    """One with samples, a store, and a broker that need not be there."""

    def __init__(self, folder: Path, broker: BrokerConfig | None = None, **more: object) -> None:
        np.savez(folder / "data.npz", x=np.zeros((8, 3), np.float32), y=np.zeros(8, np.int64))
        self.folder, self.store, self.path = folder, folder / "store", folder / "client.toml"
        self.config = ClientConfig(
            device="pi", site="lab", store=self.store, data=DataConfig(path=folder / "data.npz"),
            broker=broker or BrokerConfig(port=9), **more,  # type: ignore[arg-type]
        )  # fmt: skip
        self.path.write_text(to_toml(self.config), encoding="utf-8")


class Report:
    """What a doctor said."""

    def __init__(self, code: int, text: str) -> None:
        document = json.loads(text)
        self.code, self.checks = code, document["checks"]
        assert document["exit_code"] == code

    def all(self, name: str) -> list[dict[str, str]]:
        return [one for one in self.checks if one["name"] == name]

    def one(self, name: str) -> dict[str, str]:
        (found,) = self.all(name)
        return found

    def says(self, name: str, verdict: str, value: str, fix: str = "") -> None:
        """Whether a check has this verdict, and these parts in its value and its fix."""
        found = self.one(name)
        assert found["verdict"] == verdict, found
        assert value in found["value"]
        assert fix in found["fix"]
        assert bool(found["fix"]) == (verdict != "ok")


def examined(device: Device, capsys: pytest.CaptureFixture[str]) -> Report:
    capsys.readouterr()
    code = main(["doctor", str(device.path), "--json"])
    return Report(code, capsys.readouterr().out)
