"""What is wrong with a device's files, and the fix that its doctor names."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from device_world import Device, examined

from edge_client.agent.main import run
from edge_client.cli import main
from edge_client.doctor.trainer import imports_row
from edge_client.lock import alone
from edge_client.runtime.native.library import Library
from fedsparse.body import Bytes
from fedsparse.errors import ConfigError
from fedsparse.stored import BODY, save_message
from fedsparse.wire.messages import Part, Stage, Status, Update

Capture = pytest.CaptureFixture[str]


def test_a_line_a_check_is_printed(tmp_path: Path, capsys: Capture) -> None:
    device = Device(tmp_path)
    assert main(["doctor", str(device.path)]) == 2  # there is no broker
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "warn", "FAIL"}
    assert all((" -> " in line) == (not line.startswith("ok")) for line in lines)


def test_the_way_to_a_broker_that_is_away_is_told(tmp_path: Path, capsys: Capture) -> None:
    report = examined(Device(tmp_path), capsys)
    report.says("name", "ok", "127.0.0.1")
    report.says("port", "fail", "refused", "see that the broker runs and start it")
    report.says("mqtt", "warn", "not tried", "mend what failed above")
    for name in ("config", "samples", "store", "clock", "memory", "versions", "kernels", "trainer"):
        report.says(name, "ok", "")


def test_a_configuration_that_is_wrong_is_told_with_the_key(
    tmp_path: Path, capsys: Capture
) -> None:
    device = Device(tmp_path)
    device.path.write_text(device.path.read_text().replace("site =", "sit ="))
    report = examined(device, capsys)
    report.says("config", "fail", "unknown key 'sit'", "did you mean 'site'?")
    assert (len(report.checks), report.code) == (1, 2)


def test_samples_that_are_missing_or_empty_are_told(tmp_path: Path, capsys: Capture) -> None:
    device = Device(tmp_path)
    np.savez(device.config.data.path, x=np.zeros((0, 3)), y=np.zeros(0))
    examined(device, capsys).says("samples", "fail", "x is empty", "numpy.savez")
    device.config.data.path.unlink()
    examined(device, capsys).says("samples", "fail", "no such file", "correct [data] path")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ('policy = "none.toml"\n', "policy", "none.toml: no such file"),
        ('profile = "no-board"\n', "profile", "no-board"),
    ],
)
def test_a_file_that_is_named_and_missing_is_told(
    tmp_path: Path, capsys: Capture, line: str, name: str, value: str
) -> None:
    device = Device(tmp_path)
    device.path.write_text(line + device.path.read_text())
    examined(device, capsys).says(name, "fail", value)


def test_a_password_that_is_missing_is_told(tmp_path: Path, capsys: Capture) -> None:
    device = Device(tmp_path)
    text = device.path.read_text().replace("[broker]", '[broker]\npassword_file = "none"')
    device.path.write_text(text)
    examined(device, capsys).says("password", "fail", "none", "correct `password_file`")


def test_a_name_that_no_server_knows_is_told(tmp_path: Path, capsys: Capture) -> None:
    device = Device(tmp_path)
    device.path.write_text(device.path.read_text().replace("127.0.0.1", "no.such.invalid"))
    examined(device, capsys).says("name", "fail", "no.such.invalid", "correct `host`")


def test_what_is_damaged_in_the_store_is_told_and_left_alone(
    tmp_path: Path, capsys: Capture
) -> None:
    device = Device(tmp_path)
    text = b'{"plan": 1}'
    plan = hashlib.sha256(text).hexdigest()
    good = device.store / "plans" / f"{plan}.json"
    mask = device.store / "masks" / f"{hashlib.sha256(bytes.fromhex(plan) + b'm').hexdigest()}.bits"
    for path, data in ((good, text), (mask, b"m")):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    status = Status(device="pi", online=True, board="b", version="1", session="s")
    save_message(device.store / "outbox" / "update.head", status, Bytes(b""))
    report = examined(device, capsys)
    report.says("plans", "ok", "1, whole")
    report.says("masks", "ok", "1, whole")
    report.says("outbox", "ok", "whole")
    bad = device.store / "plans" / f"{64 * 'a'}.graph"
    for path in (bad, mask, device.store / "outbox" / "update.head"):
        path.write_bytes(b"damaged")
    report = examined(device, capsys)
    report.says("plans", "warn", "1 of 2 damaged", "the agent removes it")
    report.says("masks", "warn", "1 of 1 damaged", "the agent removes it")
    report.says("outbox", "warn", "damaged", f"remove {device.store / 'outbox'}")
    assert bad.exists()
    assert mask.exists()


def test_a_body_that_is_not_the_one_of_its_head_is_told(tmp_path: Path, capsys: Capture) -> None:
    device = Device(tmp_path)
    head = device.store / "task" / "task.head"
    save_message(head, kept_update(), Bytes(b"12345678"))
    examined(device, capsys).says("task", "ok", "8 bytes, whole")
    head.with_suffix(BODY).write_bytes(b"12345679")
    examined(device, capsys).says("task", "warn", "task.body is damaged", "stop the agent")


def kept_update() -> Update:
    return Update(
        job="digits", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=8,
        mask_digest=64 * "a", parts=(Part(name="values", codec="f32", size=8),),
    )  # fmt: skip


def test_two_agents_cannot_share_a_store(tmp_path: Path) -> None:
    device = Device(tmp_path)
    with (
        alone(device.store),
        pytest.raises(ConfigError, match=r"another `edge-client run`.*stop it first"),
    ):
        run(device.path)


def test_a_store_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    with alone(tmp_path / "store"):
        pass
    with alone(tmp_path / "store"):
        pass


def test_a_trainer_that_cannot_start_is_told_with_its_last_words() -> None:
    row = imports_row((sys.executable, "-c", "raise ImportError('no libopenblas')"))
    assert "no libopenblas" in row.value
    assert "pip install" in row.fix


def test_kernels_that_are_missing_are_told(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Library:
        return Library(Path("nowhere.so"))

    monkeypatch.setattr("edge_client.doctor.trainer.Library", missing)
    examined(Device(tmp_path), capsys).says("kernels", "fail", "missing", "install fedsparse again")
