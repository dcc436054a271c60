"""What `edge-client enrol` and `renew` read, and refuse to read."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.authority import Authority, pem_of
from aggregator.identity.keys import key_pem
from edge_client.cli import main
from edge_client.identity.renew import due

CLIENT = """\
device = "cam-01"
site = "plant"
store = "store"
[data]
path = "data.npz"
[broker]
host = "127.0.0.1"
[broker.tls]
ca = "identity/ca.pem"
certificate = "identity/device.pem"
key = "identity/device.pem"
"""
TRUST = ("--fingerprint", 64 * "a")


@pytest.fixture
def client(tmp_path: Path) -> Path:
    path = tmp_path / "client.toml"
    path.write_text(CLIENT)
    return path


def enrolled(client: Path, age: timedelta) -> datetime:
    """Gives the device an identity that is so old; when it ends."""
    now = datetime.now(timezone.utc) - age
    authority = Authority.create(client.parent / "fleet", "plant", now)
    key = Ed25519PrivateKey.generate()
    certificate = authority.issue_device("cam-01", key.public_key(), now)
    path = client.parent / "identity" / "device.pem"
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(pem_of(certificate) + key_pem(key))
    return certificate.not_valid_after_utc


def test_a_code_is_never_an_argument(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["enrol", str(client), *TRUST, "--code", "ABCD-EFGH-JKMN"])
    with pytest.raises(SystemExit):
        main(["enrol", str(client), "ABCD-EFGH-JKMN", *TRUST])


def test_the_authority_must_be_named(client: Path) -> None:
    with pytest.raises(SystemExit):
        main(["enrol", str(client)])
    with pytest.raises(SystemExit):
        main(["enrol", str(client), *TRUST, "--ca", "ca.crt"])


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1"])
def test_a_port_must_be_one(client: Path, port: str) -> None:
    with pytest.raises(SystemExit):
        main(["enrol", str(client), *TRUST, "--port", port])


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_a_mistyped_fingerprint_or_code_is_told_before_anything_is_sent(
    client: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "64 hexadecimal" in refused(["enrol", str(client), "--fingerprint", "abc"], capsys)
    assert "--ca" in refused(["enrol", str(client), "--ca", "nowhere.crt"], capsys)
    monkeypatch.setattr("sys.stdin", io.StringIO("ABCD-EFGH-JKM\n"))
    said = refused(["enrol", str(client), *TRUST], capsys)
    assert "12 letters and digits" in said
    assert "ABCD-EFGH-JKM\n" not in said


def test_a_file_with_a_code_must_be_its_owners_alone(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = client.with_name("code")
    path.write_text("ABCD-EFGH-JKMN\n")
    path.chmod(0o644)
    arguments = ["enrol", str(client), *TRUST, "--code-file", str(path)]
    assert "chmod 600" in refused(arguments, capsys)
    path.chmod(0o600)
    assert "no enrolment at 127.0.0.1:1" in refused([*arguments, "--port", "1"], capsys)


def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = enrolled(client, timedelta(days=1))
    assert main(["renew", str(client)]) == 0
    assert f"good until {ends:%Y-%m-%d}" in capsys.readouterr().out


def test_a_certificate_that_is_due_is_asked_for(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(client, timedelta(days=70))
    assert "enrol the device" in refused(["renew", str(client)], capsys)  # no address is known
    assert not client.with_name("identity").joinpath("pending.pem").exists()


def test_a_device_without_an_identity_is_told_so(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot be read" in refused(["renew", str(client)], capsys)


def test_due_is_two_thirds_through(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    authority = Authority.create(tmp_path, "plant", now)
    key = Ed25519PrivateKey.generate().public_key()
    certificate = authority.issue_device("a", key, now, life=timedelta(days=89))
    assert due(certificate) == datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=60)
