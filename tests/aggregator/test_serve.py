"""Starting an aggregator where it must not work."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from aggregator.cli import LOCK, serve
from aggregator.job import JobConfig, MethodConfig
from fedsparse.errors import ConfigError
from fedsparse.plan.zoo import PLANS
from tools.demo.toml_writer import to_toml


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_text(PLANS["digits"]().to_json(), encoding="utf-8")
    job = JobConfig(
        name="j",
        site="s",
        plan=tmp_path / "plan.json",
        output=tmp_path / "out",
        rounds=1,
        method=MethodConfig(name="pdst", levels=(0.1,)),
    )
    path = tmp_path / "job.toml"
    path.write_text(to_toml(job), encoding="utf-8")
    return path


def test_a_second_aggregator_in_the_same_folder_is_refused(job_file: Path) -> None:
    output = job_file.parent / "out"
    output.mkdir()
    with (output / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another aggregator works in"):
            serve(job_file)


def test_a_disk_that_cannot_be_written_is_named_with_the_way_out(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aggregator.course.save_round", full)
    with pytest.raises(ConfigError, match="No space left on device; make room"):
        serve(job_file)


def test_a_folder_that_cannot_hold_the_lock_is_named(job_file: Path) -> None:
    (job_file.parent / "out" / LOCK).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"output .*out: .*Is a directory"):
        serve(job_file)
