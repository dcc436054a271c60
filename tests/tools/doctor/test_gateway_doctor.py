"""What is wrong with a job's files, and the fix that the gateway's doctor names."""

from __future__ import annotations

import fcntl
from pathlib import Path

import numpy as np
import pytest
from gateway_world import examined, write_job
from typer.testing import CliRunner

from aggregator.checkpoint import Checkpoint, path_of, save_checkpoint
from aggregator.spool import SEGMENT, Spool
from aggregator.store.database import open_store
from fedsparse.body import Bytes
from fedsparse.methods.state import ServerState
from fedsparse.types import Weights
from fedsparse.wire.messages import Part, Stage, Update
from tools.cli import app

UPDATE = Update(
    job="digits", round_id=7, stage=Stage.TRAIN, level=0.1, num_examples=5, mask_digest="ab" * 32,
    parts=(Part(name="values", codec="f32", size=40),),
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path, more="[broker]\nport = 9\n")


def test_a_line_a_check_is_printed(job: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(job)])
    assert result.exit_code == 2  # there is no broker
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "warn", "FAIL"}
    assert all((" -> " in line) == (not line.startswith("ok")) for line in lines)


def test_a_job_that_has_not_begun_lacks_but_its_broker(job: Path) -> None:
    report = examined(job)
    report.says("port", "fail", "refused", "see that the broker runs")
    report.says("mqtt", "warn", "not tried", "mend")
    report.says("checkpoint", "ok", "has not begun")
    report.says("aggregator", "ok", "does not run")
    assert {one["name"] for one in report.checks if one["fix"]} == {"port", "mqtt"}
    assert not (job.parent / "job").exists()


def test_a_key_that_is_wrong_is_told(job: Path) -> None:
    job.write_text(job.read_text().replace("rounds", "round"))
    examined(job).says("config", "fail", "unknown key 'round'", "did you mean 'rounds'?")


def test_files_that_are_missing_are_told(job: Path) -> None:
    text = job.read_text().replace("rounds", 'weights = "w.npz"\ntest_data = "t.npz"\nrounds')
    job.write_text(text)
    (job.parent / "plan.json").unlink()
    report = examined(job)
    report.says("plan", "fail", "plan.json", "fedsparse model import")
    report.says("test data", "fail", "t.npz: no such file", "correct `test_data`")
    report.says("weights", "fail", "")


def checkpoint(folder: Path, round_id: int) -> Path:
    weights = Weights(prunable=np.zeros(12, np.float32), dense=np.zeros(3, np.float32))
    state = ServerState(weights=weights, masks={0.5: np.ones(12, np.bool_)})
    save_checkpoint(
        folder,
        Checkpoint(
            job="digits", method="spdst", plan_digest="", round_id=round_id, stage=Stage.TRAIN,
            state=state,
        ),
    )  # fmt: skip
    return path_of(folder, round_id)


def test_damaged_checkpoints_are_told_and_left_alone(job: Path) -> None:
    output = job.parent / "job"
    older, newer = checkpoint(output, 1), checkpoint(output, 2)
    examined(job).says("checkpoint", "ok", "round 2 comes next; 2 kept")
    newer.write_bytes(newer.read_bytes()[:-1])
    examined(job).says("checkpoint", "warn", "2.npz is damaged", "from the one before")
    older.write_bytes(b"")
    examined(job).says("checkpoint", "fail", "no older one", "from its backup")
    assert newer.exists()


def test_damaged_updates_are_told_and_left_alone(job: Path) -> None:
    root = job.parent / "job" / "spool"
    spool = Spool(root)
    spool.open(7)
    for device in ("a", "b"):
        spool.add(device, UPDATE, Bytes((device * 40).encode()))
        spool.commit()
    examined(job).says("spool", "ok", "round 7: 2 updates, whole")
    segment = root / "7" / SEGMENT
    data = segment.read_bytes().replace(b"a" * 40, b"a" * 39 + b"x")
    segment.write_bytes(data)
    examined(job).says("spool", "warn", "1 whole, 1 damaged, of a", "asked again")
    assert segment.read_bytes() == data


def test_a_damaged_store_is_told_and_left_alone(job: Path) -> None:
    path = job.parent / "job" / "fleet.db"
    with open_store(path) as store:
        store.back_up()
    report = examined(job)
    report.says("store", "ok", "whole, revision")
    report.says("backup", "ok", "whole")
    path.write_bytes(b"no database" * 1000)
    examined(job).says("store", "fail", "damaged", "start the job")
    assert path.read_bytes().startswith(b"no database")
    path.unlink()
    examined(job).says("store", "warn", "it is gone", "it goes on from fleet.db.backup")
    assert not path.exists()


def test_a_database_that_is_away_is_told(job: Path) -> None:
    pytest.importorskip("psycopg")
    text = job.read_text().replace("rounds", 'store = "postgresql://x@127.0.0.1:9/y"\nrounds')
    job.write_text(text)
    examined(job).says("store", "fail", "postgresql", "see that its server runs")


def test_an_aggregator_that_runs_is_seen(job: Path) -> None:
    output = job.parent / "job"
    output.mkdir()
    with (output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        examined(job).says("aggregator", "ok", "runs")
    examined(job).says("aggregator", "ok", "does not run")


def test_an_output_that_cannot_be_written_is_told(job: Path) -> None:
    (job.parent / "job").write_text("a file")
    examined(job).says("output", "fail", "not a folder", "name another one")


def test_a_folder_without_a_fleet_is_told(tmp_path: Path) -> None:
    report = examined(tmp_path)
    report.says("fleet", "fail", "no fleet", "fedsparse identity init")
