"""A device's key and what it accepts as its certificate."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.authority import Authority
from aggregator.identity.keys import key_pem
from edge_client.identity.folder import IdentityFolder
from edge_client.identity.keys import (
    DeviceKey,
    check_issued,
    fingerprint_of,
    pem_of,
    pending_key,
    read_certificate,
    read_pem,
)
from fedsparse.errors import ConfigError, RemoteProtocolError

NOW = datetime(2026, 5, 4, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "fleet", "plant", NOW)


@pytest.fixture
def key() -> DeviceKey:
    return DeviceKey(Ed25519PrivateKey.generate())


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    return IdentityFolder(device=tmp_path / "id" / "device.pem", authority=tmp_path / "ca.pem")


def issue(authority: Authority, key: DeviceKey, device: str = "cam-01") -> x509.Certificate:
    return authority.issue_device(device, x509.load_der_x509_csr(key.request("x")), NOW)


def test_a_request_is_the_same_every_time_and_signed_by_its_key(key: DeviceKey) -> None:
    again = DeviceKey.read(key.pem, "test")
    assert again.request("cam-01") == key.request("cam-01")
    assert again.public_key == key.public_key
    assert x509.load_der_x509_csr(key.request("cam-01")).is_signature_valid


def test_a_key_that_waits_for_its_certificate_is_used_again(folder: IdentityFolder) -> None:
    first = pending_key(folder)
    assert pending_key(folder).public_key == first.public_key
    folder.pending.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        pending_key(folder)


def test_the_certificate_that_was_asked_for_is_accepted(
    authority: Authority, key: DeviceKey
) -> None:
    check_issued(issue(authority, key), authority.certificate, key.public_key, "cam-01")


def test_every_other_certificate_is_refused(
    authority: Authority, key: DeviceKey, tmp_path: Path
) -> None:
    other_key = DeviceKey(Ed25519PrivateKey.generate())
    impostor = Authority.create(tmp_path / "other", "plant", NOW)
    for certificate, reason in (
        (issue(authority, other_key), "another key"),
        (issue(authority, key, "cam-02"), "another name"),
        (issue(impostor, key), "another authority"),
        (authority.certificate, "another key"),
    ):
        with pytest.raises(RemoteProtocolError, match=reason):
            check_issued(certificate, authority.certificate, key.public_key, "cam-01")


def test_what_is_no_key_or_certificate_is_refused(authority: Authority) -> None:
    curve = key_pem(ec.generate_private_key(ec.SECP256R1()))
    for pem, reason in ((b"", "no private key"), (curve, "Ed25519"), (curve[:60], "no private")):
        with pytest.raises(ConfigError, match=reason):
            DeviceKey.read(pem, "device.pem")
    with pytest.raises(ConfigError, match=r"device\.pem: no certificate"):
        read_pem(b"x", "device.pem")
    with pytest.raises(RemoteProtocolError, match="no certificate"):
        read_certificate(b"x")
    assert read_pem(pem_of(authority.certificate), "ca") == authority.certificate


def test_a_certificate_is_known_by_its_fingerprint(authority: Authority, key: DeviceKey) -> None:
    assert fingerprint_of(authority.certificate).matches(authority.certificate_der)
    assert fingerprint_of(authority.certificate).text == authority.fingerprint
    assert not fingerprint_of(issue(authority, key)).matches(authority.certificate_der)


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from edge_client.cli import main\n"
        "sys.exit(main(['renew', 'client.toml']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert 'pip install "fedsparse[identity]"' in done.stderr
    assert "Traceback" not in done.stderr
