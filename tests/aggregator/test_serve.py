"""Starting an aggregator where it must not work."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from sqlalchemy import select

from aggregator.cli import LOCK, serve
from aggregator.job import JobConfig, MethodConfig
from aggregator.store.database import open_store
from aggregator.store.schema import jobs
from fedsparse.errors import ConfigError, StoreError, TransportError
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

    monkeypatch.setattr("aggregator.disk.os.posix_fallocate", full)
    with pytest.raises(ConfigError, match="No space left on device; make room"):
        serve(job_file)


def test_a_store_that_cannot_be_opened_is_named(job_file: Path) -> None:
    text = job_file.read_text(encoding="utf-8")
    job_file.write_text(text.replace('store = ""', 'store = "mysql://me:secret@host/fleet"'))
    with pytest.raises(StoreError, match="write the path of a file, or postgresql://"):
        serve(job_file)


def test_the_store_is_where_the_jobs_file_says(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_broker(self: object) -> None:
        raise TransportError("no broker here")

    monkeypatch.setattr("aggregator.cli.MqttTransport.start", no_broker)
    text = job_file.read_text(encoding="utf-8")
    job_file.write_text(text.replace('store = ""', 'store = "shared/fleet.db"'))
    with pytest.raises(TransportError, match="no broker here"):
        serve(job_file)
    with open_store(job_file.parent / "shared" / "fleet.db") as store, store.reading() as db:
        assert [row.name for row in db.execute(select(jobs))] == ["j"]
    assert not (job_file.parent / "out" / "fleet.db").exists()


def test_a_folder_that_cannot_hold_the_lock_is_named(job_file: Path) -> None:
    (job_file.parent / "out" / LOCK).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"output .*out: .*Is a directory"):
        serve(job_file)
