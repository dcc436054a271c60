"""The files of [broker.tls], and what a clock that is behind changes."""

from __future__ import annotations

import logging
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import DAY, Authority, now
from cryptography.hazmat.primitives import serialization

from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.tls import NO_CHECK_TIME, open_context


def files(folder: Path) -> TlsConfig:
    authority = Authority(folder)
    pair = authority.sign("pi")
    return TlsConfig(ca=authority.ca, certificate=pair.certificate, key=pair.key)


def test_only_the_authority_of_the_fleet_is_trusted_and_the_name_is_checked(
    tmp_path: Path,
) -> None:
    context = open_context(files(tmp_path), now_s=now().timestamp())
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not context.verify_flags & NO_CHECK_TIME


def test_a_clock_before_the_own_certificate_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A board without a battery begins in 1970, or where it was switched off."""
    with caplog.at_level(logging.WARNING):
        context = open_context(files(tmp_path), now_s=(now() - 2 * DAY).timestamp())
    assert context.verify_flags & NO_CHECK_TIME
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert "clock=behind" in caplog.text


def test_a_clock_before_the_authority_is_not_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path, begins=now() - 9 * DAY)
    tls = TlsConfig(ca=authority.ca)
    for days, behind in ((10, True), (8, False)):
        context = open_context(tls, now_s=(now() - days * DAY).timestamp())
        assert bool(context.verify_flags & NO_CHECK_TIME) == behind


@pytest.mark.parametrize(("hours", "behind"), [(1, True), (-1, False)])
def test_a_moment_that_has_passed_bounds_the_clock(
    tmp_path: Path, hours: int, behind: bool
) -> None:
    floor = now() + timedelta(hours=hours)
    context = open_context(files(tmp_path), now_s=now().timestamp(), floor_s=floor.timestamp())
    assert bool(context.verify_flags & NO_CHECK_TIME) == behind


def test_the_key_must_be_its_owners_alone(tmp_path: Path) -> None:
    tls = files(tmp_path)
    assert tls.key is not None
    for mode in (0o640, 0o604):
        tls.key.chmod(mode)
        with pytest.raises(ConfigError, match=rf"\[broker.tls\] key: .*`chmod 600 {tls.key}`"):
            open_context(tls, now_s=now().timestamp())
    tls.key.chmod(0o400)
    open_context(tls, now_s=now().timestamp())


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    tls, other = files(tmp_path / "one"), files(tmp_path / "other")
    mixed = TlsConfig(ca=tls.ca, certificate=tls.certificate, key=other.key)
    with pytest.raises(ConfigError, match=r"not belong to the certificate .* enrol the device"):
        open_context(mixed, now_s=now().timestamp())


@pytest.mark.parametrize("key", ["ca", "certificate", "key"])
def test_a_missing_file_is_named_with_the_way_out(tmp_path: Path, key: str) -> None:
    tls = files(tmp_path)
    path = getattr(tls, key)
    path.unlink()
    with pytest.raises(ConfigError, match=rf"\[broker.tls\] {key}: {path}: no such file; enrol"):
        open_context(tls, now_s=now().timestamp())


@pytest.mark.parametrize("key", ["ca", "certificate", "key"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nMII\n"])
def test_a_damaged_file_is_named(tmp_path: Path, key: str, content: bytes) -> None:
    tls = files(tmp_path)
    path = getattr(tls, key)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"\[broker.tls\] {key}: {path}: .* PEM form"):
        open_context(tls, now_s=now().timestamp())


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    tls = files(tmp_path)
    assert tls.key is not None
    key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    tls.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match=r"key: .*private key in PEM form, without a password"):
        open_context(tls, now_s=now().timestamp())


def test_a_certificate_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate and key belong together"):
        TlsConfig(ca=Path("ca"), certificate=Path("c"))


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("protocol", "4", "protocol must be one of"),
        ("max_packet_bytes", 8191, "max_packet_bytes must be 8192 at least"),
    ],
)
def test_what_the_broker_table_cannot_mean_is_refused(key: str, value: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BrokerConfig(**{key: value})  # type: ignore[arg-type]
