"""Whom an agent believes, also while the keys are replaced, and where they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_client.agent.trust import enrolled, trust_in_gateway
from edge_client.config import ClientConfig
from edge_client.identity.folder import Home, IdentityFolder
from fedsparse.config import build
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.wire.signing import SignatureError, Trusted, with_signature

HOME = Home(host="gw", port=8883, enrolment_host="gw", enrolment_port=8884, now_ms=5)
TOPIC = "fl/v1/plant/all/round"


class Owner:
    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def is_believed(self, keys: Trusted | None) -> bool:
        assert keys is not None
        header = with_signature(TOPIC, 2, {"j": "job"}, self)
        try:
            keys.check(TOPIC, 2, header)
        except SignatureError:
            return False
        return True


OLD, NEW = Owner(), Owner()


def config(folder: Path) -> ClientConfig:
    names = {"ca": "id/ca.pem", "certificate": "id/device.pem", "key": "id/device.pem"}
    table = {
        "device": "cam-01", "site": "plant", "store": "store", "data": {"path": "d.npz"},
        "broker": {"tls": names},
    }  # fmt: skip
    return build(ClientConfig, table, where="client.toml", base=folder)


def settle(config: ClientConfig, *owners: Owner) -> IdentityFolder:
    folder = IdentityFolder.of(config)
    keys = tuple(owner.public_key for owner in owners)
    folder.settle(device_pem=b"device", authority_pem=b"ca", gateway_keys=keys, home=HOME)
    return folder


def test_keys_that_are_replaced_while_the_agent_runs_count_from_then_on(tmp_path: Path) -> None:
    settle(config(tmp_path), OLD)
    trust = trust_in_gateway(config(tmp_path))
    assert trust is not None
    assert (OLD.is_believed(trust.keys("")), NEW.is_believed(trust.keys(""))) == (True, False)
    settle(config(tmp_path), OLD, NEW)
    assert (OLD.is_believed(trust.keys("")), NEW.is_believed(trust.keys(""))) == (True, True)
    settle(config(tmp_path), NEW)
    assert (OLD.is_believed(trust.keys("")), NEW.is_believed(trust.keys(""))) == (False, True)


@pytest.mark.parametrize("text", [None, b"", b"no hexadecimal", b"ab\n", b"00" * 32 + b"\n"])
def test_keys_that_are_damaged_while_the_agent_runs_end_neither_it_nor_what_it_believed(
    tmp_path: Path, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = settle(config(tmp_path), OLD)
    trust = trust_in_gateway(config(tmp_path))
    assert trust is not None
    if text is None:
        folder.gateway.unlink()
    else:
        write_durably(folder.gateway, text)
    for _ in range(3):
        assert OLD.is_believed(trust.keys(""))
        assert not NEW.is_believed(trust.keys(""))
    assert caplog.text.count("gateway_keys=kept") == 1
    settle(config(tmp_path), NEW)
    assert NEW.is_believed(trust.keys(""))


def test_what_comes_while_the_keys_are_read_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settle(config(tmp_path), OLD)
    trust = trust_in_gateway(config(tmp_path))
    assert trust is not None
    settle(config(tmp_path), OLD, NEW)
    read = IdentityFolder.gateway_keys

    def late(self: IdentityFolder) -> tuple[bytes, ...]:
        found = read(self)
        monkeypatch.undo()
        settle(config(tmp_path), NEW)  # another process replaces them at this moment
        return found

    monkeypatch.setattr(IdentityFolder, "gateway_keys", late)
    assert OLD.is_believed(trust.keys(""))
    assert not OLD.is_believed(trust.keys(""))
    assert folder.gateway_keys() == (NEW.public_key,)


@pytest.mark.parametrize("name", ["gateway", "home"])
@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_an_enrolled_device_whose_files_are_damaged_does_not_go_on_without_signatures(
    tmp_path: Path, name: str, damage: str
) -> None:
    path: Path = getattr(settle(config(tmp_path), OLD), name)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"{")
    with pytest.raises(ConfigError, match="enrol the device"):
        trust_in_gateway(config(tmp_path))


def test_a_device_whose_certificate_was_made_by_hand_is_not_enrolled(tmp_path: Path) -> None:
    assert enrolled(config(tmp_path)) is None
    assert trust_in_gateway(config(tmp_path)) is None
