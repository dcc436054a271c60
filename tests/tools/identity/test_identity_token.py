"""`fedsparse identity token`: what an operator carries to a device."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator.identity.fleet import Fleet
from aggregator.store import tokens
from fedsparse.errors import ConfigError
from fedsparse.wire.enrolment_code import derive_key, parse_code, parse_fingerprint
from tools.cli import app


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    now = datetime.now(timezone.utc)
    Fleet.create(tmp_path / "fleet", "plant", ["gateway.local"], now).close()
    return tmp_path / "fleet"


def run(fleet: Path, *arguments: str) -> str:
    command = ["identity", "token", *arguments, "--fleet", str(fleet)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_code_that_is_printed_is_the_one_whose_key_is_kept(fleet: Path) -> None:
    document = json.loads(run(fleet, "cam-01", "--json", "--hours", "2"))
    code = parse_code(document["code"])
    with Fleet.open(fleet) as opened, opened.store.reading() as db:
        (token,) = tokens.everyone(db)
        der = opened.authority.certificate_der
    assert token.key == derive_key(code, site="plant", device="cam-01")
    assert token.expires_ms - token.made_ms == 2 * 3600 * 1000
    for text in (document["fingerprint"], document["short_fingerprint"]):
        assert parse_fingerprint(text).matches(der)


def test_people_are_told_the_command_for_the_device(fleet: Path) -> None:
    printed = run(fleet, "cam-01")
    code, fingerprint = (
        line.split()[1] for line in printed.splitlines() if line.startswith(("code", "finger"))
    )
    assert len(parse_code(code).secret) == 8
    assert f"edge-client enrol client.toml --fingerprint {fingerprint}\n" in printed
    assert code not in printed.splitlines()[-1]  # not where it would be copied into a history


@pytest.mark.parametrize("hours", ["0", "-2", "721"])
def test_a_code_is_good_for_a_bounded_time(fleet: Path, hours: str) -> None:
    with pytest.raises(ConfigError, match="720 hours"):
        run(fleet, "cam-01", "--hours", hours)


def test_a_folder_without_a_fleet_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="identity init"):
        run(tmp_path / "nowhere", "cam-01")
