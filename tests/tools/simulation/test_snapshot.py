"""A snapshot on disk: what damages it is noticed, and what only hinders it is got round."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aggregator.job import MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.errors import ConfigError
from tools.simulation.run import simulate
from tools.simulation.snapshot import Workspace
from tools.simulation.spec import RunSpec

SPEC = RunSpec(
    dataset="digits",
    plan="digits",
    clients=4,
    cohort=2,
    samples=16,
    method=MethodConfig(name="nst", levels=(0.1,)),
    training=TrainingConfig(batch_size=16, learning_rate=0.1, learning_rate_end=0.05),
    values=ValuesConfig(up="i8", error_feedback=True),
    rounds=4,
    evaluate_every=2,
)


def stop(record: dict[str, Any]) -> None:
    """Be interrupted in the third round."""
    if record["round"] == 3:
        raise KeyboardInterrupt


def begin(folder: Path, data: Path) -> Path:
    """A run with a snapshot."""
    with pytest.raises(KeyboardInterrupt):
        simulate(SPEC, folder, data=data, snapshot_s=0.0, progress=stop)
    return folder


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the split, an interrupted run in `begun`, and a whole one in `calm`."""
    folder = tmp_path_factory.mktemp("snapshot")
    simulate(SPEC, folder / "calm", data=folder / "data")
    begin(folder / "begun", folder / "data")
    return folder


@pytest.fixture
def begun(calm: Path, tmp_path: Path) -> Path:
    """The interrupted run, to be damaged."""
    return Path(shutil.copytree(calm / "begun", tmp_path / "run"))


def digest(folder: Path) -> str:
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return str(found["model_digest"])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, garble, empty, Path.unlink])
@pytest.mark.parametrize(
    "pattern",
    ["state.json", "checkpoints/*", "rounds.jsonl", "masks/*", "own-masks/*", "residuals/*"],
)
def test_a_damaged_file_is_noticed_before_anything_is_changed(
    begun: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    path = min((begun / "snapshot").glob(pattern))
    damage(path)
    before = contents(begun)
    with pytest.raises(ConfigError, match=f"{begun}/snapshot is damaged .*{path.name}.*: remove"):
        Workspace.of(begun).restore()
    assert contents(begun) == before


@pytest.mark.parametrize("name", ["surplus", "masks/surplus.bits"])
def test_a_file_that_was_not_saved_is_noticed(begun: Path, name: str) -> None:
    (begun / "snapshot" / name).touch()
    with pytest.raises(ConfigError, match=rf"is damaged \({name} is not .* remove {begun} to run"):
        Workspace.of(begun).restore()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"digest": "", "moment": {}}'])
def test_a_state_that_makes_no_sense_is_noticed(begun: Path, text: str) -> None:
    (begun / "snapshot/state.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"is damaged .* remove {begun} to run it afresh"):
        simulate(SPEC, begun, data=begun)


def test_a_changed_state_is_noticed_though_it_is_whole(begun: Path) -> None:
    path = begun / "snapshot/state.json"
    sealed = json.loads(path.read_text(encoding="utf-8"))
    sealed["moment"]["state"]["fleet"]["last"] = []
    path.write_text(json.dumps(sealed), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"state.json: ValueError: another digest\): remove"):
        Workspace.of(begun).restore()


def test_a_file_system_without_hard_links_will_do(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    folder = begin(tmp_path / "run", calm / "data")
    for path in (folder / "snapshot").rglob("*.bits"):
        live = folder / "live" / path.relative_to(folder / "snapshot")
        assert path.stat().st_nlink == 1
        # A copy keeps its time; the live file may have been written again since.
        assert not live.exists() or path.stat().st_mtime_ns <= live.stat().st_mtime_ns
    simulate(SPEC, folder, data=calm / "data")
    assert digest(folder) == digest(calm / "calm")


def test_a_disk_that_is_full_is_no_file_system_without_links(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="No space left"):
        simulate(SPEC, tmp_path / "run", data=calm / "data", snapshot_s=0.0)


@pytest.mark.parametrize("name", ["snapshot.new", "snapshot.old"])
def test_what_a_kill_left_of_a_snapshot_is_no_hindrance(calm: Path, begun: Path, name: str) -> None:
    shutil.copytree(begun / "snapshot", begun / name)
    simulate(SPEC, begun, data=calm / "data", snapshot_s=0.0)
    assert digest(begun) == digest(calm / "calm")
    assert not (begun / name).exists()


def test_a_kill_between_two_renames_costs_no_round(begun: Path) -> None:
    (begun / "snapshot").rename(begun / "snapshot.old")
    assert Workspace.of(begun).restore() is not None
    assert len((begun / "rounds.jsonl").read_text(encoding="utf-8").splitlines()) == 2
