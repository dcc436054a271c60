"""`fedsparse identity` and `fedsparse broker --fleet`, as an operator uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator.identity.authority import Authority
from aggregator.identity.fleet import Fleet
from aggregator.identity.fleet_file import FleetConfig
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.upkeep import keep_fresh as real_keep_fresh
from aggregator.store import devices
from aggregator.store.database import FLEET, open_store
from fedsparse.config import load, read_toml
from fedsparse.errors import ConfigError, StoreError
from tools.broker import free_port
from tools.cli import app
from tools.identity.broker import run_fleet_broker


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    folder = tmp_path / "fleet"
    ports = [str(free_port("127.0.0.1", 0)) for _ in range(3)]
    options = ["--port", ports[0], "--enrolment-port", ports[1], "--service-port", ports[2]]
    result = run("init", str(folder), "--site", "plant", "--host", "gateway.local", *options)
    assert Authority.open(folder).fingerprint in result
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["identity", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_init_makes_a_fleet_file_that_is_read_as_it_was_asked_for(fleet: Path) -> None:
    config = load(FleetConfig, fleet / "fleet.toml")
    assert (config.site, config.hosts) == ("plant", ("gateway.local",))


def test_init_leaves_a_fleet_alone(fleet: Path) -> None:
    with pytest.raises(ConfigError, match="there is a fleet already"):
        run("init", str(fleet), "--site", "plant", "--host", "gateway.local")


def test_issue_prints_the_tables_that_a_job_needs(fleet: Path, tmp_path: Path) -> None:
    printed = run("issue", "gateway.digits", "--fleet", str(fleet))
    (tmp_path / "job.toml").write_text(printed)
    table = read_toml(tmp_path / "job.toml")
    assert table["broker"]["port"] == load(FleetConfig, fleet / "fleet.toml").broker.port
    for key in ("ca", "certificate", "key"):
        assert Path(table["broker"]["tls"][key]).is_file()


def test_issue_refuses_what_is_no_role(fleet: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.JOB, identity, doctor"):
        run("issue", "cam-01", "--fleet", str(fleet))


def test_list_shows_devices_and_services_until_when_they_are_good(fleet: Path) -> None:
    run("issue", "gateway.digits", "--fleet", str(fleet))
    with open_store(fleet / FLEET) as store, store.writing() as db:
        devices.enrol(db, "cam-01", bytes(32), to_ms(utc_now()))
    lines = run("list", "--fleet", str(fleet)).splitlines()
    assert [line.split()[0] for line in lines[4:]] == [
        "broker", "gateway.digits", "identity", "cam-01",
    ]  # fmt: skip
    document = json.loads(run("list", "--fleet", str(fleet), "--json"))
    assert document["fingerprint"] == Authority.open(fleet).fingerprint
    assert document["devices"][0]["state"] == "enrolled"
    assert all(one["till"] for one in document["services"])


def test_revoke_says_what_came_of_it(fleet: Path) -> None:
    with open_store(fleet / FLEET) as store, store.writing() as db:
        devices.enrol(db, "cam-01", bytes(32), to_ms(utc_now()))
    arguments = ["identity", "revoke", "cam-01", "--fleet", str(fleet)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "cam-01 is out" in result.stdout
    assert "no broker runs here" in result.stderr
    document = json.loads(run("list", "--fleet", str(fleet), "--json"))
    assert document["devices"][0]["state"] == "revoked"
    assert "user cam-01\ntopic deny #\n" in (fleet / "broker" / "acl").read_text()


def test_the_folder_can_be_named_by_the_environment(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSPARSE_FLEET", str(fleet))
    assert "revocation list: 0 certificates" in run("crl")


def test_a_fleets_broker_takes_no_options_of_one_for_trials(fleet: Path) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        CliRunner().invoke(
            app, ["broker", "--fleet", str(fleet), "--port", "1883"], catch_exceptions=False
        )


@contextmanager
def broker_of(fleet: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tools.cli", "broker", "--fleet", str(fleet)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "listens" in line:
                break
        else:
            pytest.fail("the broker did not start")
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@pytest.mark.usefixtures("mosquitto")
def test_the_fleets_broker_runs_is_told_and_is_gone_afterwards(fleet: Path) -> None:
    with broker_of(fleet) as process:
        pid = int((fleet / "broker" / "mosquitto.pid").read_text())
        with pytest.raises(ConfigError, match=f"runs already: process {pid}"):
            CliRunner().invoke(app, ["broker", "--fleet", str(fleet)], catch_exceptions=False)
        run("issue", "doctor", "--fleet", str(fleet))
        printed = run("revoke", "doctor", "--role", "--fleet", str(fleet))
        assert "the broker refuses it, and its connection is ended" in printed
        assert "certificate is for gateway.local" in run("renew-broker", "--fleet", str(fleet))
        assert process.poll() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("mosquitto")
def test_a_broker_that_ends_by_itself_ends_the_command_with_a_word(fleet: Path) -> None:
    with broker_of(fleet) as process:
        os.kill(int((fleet / "broker" / "mosquitto.pid").read_text()), signal.SIGKILL)
        assert process.wait() == 2
        assert process.stderr is not None
        assert "mosquitto ended with -9; it says why in" in process.stderr.read()


@pytest.mark.usefixtures("mosquitto")
def test_what_the_broker_needs_is_looked_after_while_it_runs_and_a_failure_does_not_end_it(
    fleet: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The looks follow each other at once; the third is the last."""
    outcomes: list[tuple[str, ...] | BaseException] = [
        (),  # at the start
        StoreError("the disk is full"),
        ("the revocation list",),
        KeyboardInterrupt(),
    ]

    def keep_fresh(*_: object) -> tuple[str, ...]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("tools.identity.broker.keep_fresh", keep_fresh)
    monkeypatch.setattr("tools.identity.broker.LOOK_S", 0.01)
    monkeypatch.setattr("tools.identity.broker.UPKEEP_EVERY", 1)
    with Fleet.open(fleet) as opened:
        real_keep_fresh(opened, utc_now())
    with caplog.at_level("INFO"):
        run_fleet_broker(fleet)
    assert "upkeep='the disk is full'" in caplog.text
    assert "renewed='the revocation list'" in caplog.text
    assert outcomes == []
