"""What a device keeps of its identity, and what it says where that is not in order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_client.config import ClientConfig
from edge_client.identity.folder import Home, IdentityFolder
from fedsparse.config import build
from fedsparse.errors import ConfigError

HOME = Home(
    host="gateway.local", port=8883, enrolment_host="10.0.0.1", enrolment_port=8884, now_ms=5
)


def config(tmp_path: Path, tls: dict[str, str] | None) -> ClientConfig:
    table: dict[str, Any] = {
        "device": "cam-01",
        "site": "plant",
        "store": "store",
        "data": {"path": "data.npz"},
        "broker": {} if tls is None else {"tls": tls},
    }
    return build(ClientConfig, table, where="client.toml", base=tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    names = {"ca": "id/ca.pem", "certificate": "id/device.pem", "key": "id/device.pem"}
    return IdentityFolder.of(config(tmp_path, names))


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def settle(folder: IdentityFolder) -> None:
    folder.settle(
        device_pem=b"device", authority_pem=b"ca", gateway_keys=(32 * b"\1", 32 * b"\2"), home=HOME
    )


@pytest.mark.usefixtures("open_umask")
def test_what_is_settled_is_read_again_and_what_is_secret_stays_so(folder: IdentityFolder) -> None:
    folder.keep_pending(b"key")
    assert stat.S_IMODE(folder.pending.stat().st_mode) == 0o600
    settle(folder)
    assert folder.read_secret(folder.device) == b"device"
    assert folder.gateway_keys() == (32 * b"\1", 32 * b"\2")
    assert folder.read_home() == HOME
    assert stat.S_IMODE(folder.device.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.device.parent.stat().st_mode) == 0o700
    assert not folder.pending.exists()


def test_the_certificate_comes_last_and_a_crash_before_it_leaves_the_old_one(
    folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(folder)
    folder.keep_pending(b"key")

    def crash(path: Path, data: bytes) -> None:
        raise OSError("power")

    monkeypatch.setattr("edge_client.identity.folder.write_secret", crash)
    with pytest.raises(OSError, match="power"):
        folder.settle(device_pem=b"new", authority_pem=b"ca", gateway_keys=(32 * b"\3",), home=HOME)
    assert folder.device.read_bytes() == b"device"
    assert folder.pending.read_bytes() == b"key"  # the same key is asked for again


def test_a_key_that_others_may_read_is_refused(folder: IdentityFolder) -> None:
    settle(folder)
    folder.device.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        folder.read_secret(folder.device)


def test_a_device_without_an_identity_is_told_to_enrol(folder: IdentityFolder) -> None:
    with pytest.raises(ConfigError, match="enrol the device"):
        folder.read_home()
    with pytest.raises(ConfigError, match="enrol the device"):
        folder.gateway_keys()
    with pytest.raises(ConfigError, match="cannot be read"):
        folder.read_secret(folder.device)


@pytest.mark.parametrize("text", [b"", b"00", b"zz", 64 * b"\xff", b"\n", b"01" * 32 + b"\nab"])
def test_damaged_keys_of_the_gateway_are_none(folder: IdentityFolder, text: bytes) -> None:
    settle(folder)
    folder.gateway.write_bytes(text)
    with pytest.raises(ConfigError, match="enrol the device"):
        folder.gateway_keys()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1}'])
def test_a_damaged_address_of_the_fleet_is_none(folder: IdentityFolder, text: bytes) -> None:
    settle(folder)
    folder.home.write_bytes(text)
    with pytest.raises(ConfigError, match="enrol the device"):
        folder.read_home()


@pytest.mark.parametrize("tls", [None, {"ca": "ca.pem"}])
def test_a_configuration_without_files_is_told_what_to_add(
    tmp_path: Path, tls: dict[str, str] | None
) -> None:
    with pytest.raises(ConfigError, match=r"\[broker\.tls\]"):
        IdentityFolder.of(config(tmp_path, tls))


def test_certificate_and_key_must_be_one_file(tmp_path: Path) -> None:
    names = {"ca": "ca.pem", "certificate": "a.pem", "key": "b.pem"}
    with pytest.raises(ConfigError, match="must be one file"):
        IdentityFolder.of(config(tmp_path, names))
