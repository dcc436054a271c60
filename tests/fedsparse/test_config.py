"""TOML files to dataclasses: what is wrong is named, with the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aggregator.job import JobConfig
from edge_client.config import ClientConfig
from fedsparse.config import build, load, read_toml
from fedsparse.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be positive, got {self.size}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    path: Path | None = None
    levels: tuple[float, ...] = (1.0,)
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    settings: Mapping[str, Any] = field(default_factory=dict)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_its_dataclass(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'name = "a"\npath = "sub/x"\nlevels = [1, 0.5]\non = true\n[inner]\nrate = 2\nsize = 7\n'
        "[settings]\nany = 1\n",
    )
    assert load(Outer, path) == Outer(
        name="a",
        path=tmp_path / "sub/x",
        levels=(1.0, 0.5),
        on=True,
        inner=Inner(rate=2.0, size=7),
        settings={"any": 1},
    )


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert load(Outer, write(tmp_path, 'name = "a"')) == Outer(name="a")


def test_paths_are_taken_from_the_folder_of_the_file_unless_they_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir(tmp_path.parent)
    relative = Path(tmp_path.name) / write(tmp_path, 'name = "a"\npath = "x"').name
    assert load(Outer, relative).path == tmp_path / "x"
    assert load(Outer, write(tmp_path, 'name = "a"\npath = "/x"')).path == Path("/x")
    assert load(Outer, write(tmp_path, 'name = "a"\npath = "~/x"')).path == Path("/home/someone/x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "some.toml: the key 'name' is missing"),
        ('name = "a"\nnmae = "b"', "unknown key 'nmae'; did you mean 'name'?"),
        (
            'name = "a"\nzzz = 1',
            "unknown key 'zzz'; known keys: inner, levels, name, on, path, settings",
        ),
        ('name = "a"\n[inner]\nsizes = 1', "some.toml: inner: unknown key 'sizes'.*'size'"),
        ("name = 1", "some.toml: name: expected str, got 1"),
        ('name = "a"\non = 1', "on: expected bool, got 1"),
        ('name = "a"\npath = 1', "path: expected a path, got 1"),
        ('name = "a"\nlevels = 0.5', "levels: expected a list, got 0.5"),
        ('name = "a"\nlevels = [true]', "levels: expected float, got True"),
        ('name = "a"\nlevels = ["x"]', "levels: expected float, got 'x'"),
        ('name = "a"\ninner = 1', "inner: expected a table, got 1"),
        ('name = "a"\nsettings = 1', "settings: expected a table, got 1"),
        ('name = "a"\n[inner]\nsize = 1.5', "inner: size: expected int, got 1.5"),
        ('name = "a"\n[inner]\nsize = true', "inner: size: expected int, got True"),
        ('name = "a"\n[inner]\nrate = nan', "inner: rate: expected a finite number, got nan"),
        ('name = "a"\n[inner]\nrate = inf', "inner: rate: expected a finite number, got inf"),
        ('name = "a"\n[inner]\nsize = 0', "some.toml: inner: size must be positive, got 0"),
        ("name = ", "some.toml: not valid TOML"),
        ("name = 'a'\nname = 'b'", "some.toml: not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(Outer, write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: no such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"latin\.toml"):
        read_toml(tmp_path / "latin.toml")


JOB = {"name": "j", "site": "s", "plan": "p.json", "output": "out", "rounds": 3}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "a/b"}, "name must be 1 to 64 letters"),
        ({"site": ""}, "site must be 1 to 64 letters"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"seed": -1}, "seed must be 0"),
        (
            {"method": {"name": "magic"}},
            "one of dense, nst, pdst, spdst, jmwst, ssfl, sparsyfed, got 'magic'",
        ),
        ({"method": {"levels": [0.1, 0.2]}}, "levels must decrease"),
        ({"method": {"levels": [0.1, 0.1]}}, "levels must decrease"),
        ({"method": {"levels": []}}, "levels must be densities"),
        ({"method": {"levels": [1.5]}}, "levels must be densities"),
        ({"method": {"name": "dense"}}, r"write levels = \[1.0\]"),
        ({"method": {"sense_devices": 0}}, "at least 1"),
        ({"method": {"prune_rate": 1.0}}, "prune_rate"),
        ({"method": {"initialisation": "xavier"}}, "kept or dense"),
        ({"method": {"levels": [0.2, 0.19999999]}}, "levels must differ in six digits"),
        ({"method": {"sense_epochs": 10_001}}, "sense_epochs must be at most 10000"),
        ({"training": {"epochs": 0}}, "epochs must be 1 to 10000"),
        ({"training": {"batch_size": 0}}, "batch_size must be 1 to 65536"),
        ({"training": {"learning_rate": 1e300}}, r"must be below 1e\+15"),
        ({"training": {"learning_rate_end": 1.0}}, "learning_rate_end <= learning_rate"),
        ({"training": {"momentum": 1.0}}, "momentum"),
        ({"cohort": {"min_devices": 0}}, "min_devices"),
        ({"cohort": {"participation": 0}}, "participation"),
        ({"cohort": {"deadline_s": 0}}, "deadline_s"),
        ({"cohort": {"deadline_s": float("nan")}}, "deadline_s: expected a finite number"),
        ({"broker": {"port": 70_000}}, "port must be 1 to 65535"),
        ({"broker": {"hots": "x"}}, "did you mean 'host'"),
    ],
)
def test_a_job_that_cannot_be_run_is_refused(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    assert build(JobConfig, JOB, where="job.toml", base=tmp_path).output == tmp_path / "out"
    with pytest.raises(ConfigError, match=f"job.toml.*{complaint}"):
        build(JobConfig, {**JOB, **change}, where="job.toml", base=tmp_path)


CLIENT = {"device": "d", "site": "s", "store": "store", "data": {"path": "x.npz"}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"device": "a b"}, "device must be 1 to 64 letters"),
        ({"data": {"path": "x.npz", "holdout": 1.0}}, "holdout"),
        ({"data": {}}, "data: the key 'path' is missing"),
        ({"budget": {"memory_fraction": 0.0}}, "memory_fraction"),
        ({"budget": {"memory_mib": -1}}, "memory_mib"),
        ({"budget": {"threads": 0}}, "threads"),
        ({"profile": 4}, "profile: expected str"),
        ({"broker": {"keepalive_s": 1}}, "keepalive_s"),
    ],
)
def test_a_device_that_cannot_be_run_is_refused(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    made = build(ClientConfig, CLIENT, where="client.toml", base=tmp_path)
    assert made.data.path == tmp_path / "x.npz"
    with pytest.raises(ConfigError, match=f"client.toml.*{complaint}"):
        build(ClientConfig, {**CLIENT, **change}, where="client.toml", base=tmp_path)
