from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.identity.fleet_file import FleetConfig
from aggregator.identity.names import Duty, Role, device_name, parse_role
from fedsparse.config import load
from fedsparse.errors import ConfigError


def read(folder: Path, text: str) -> FleetConfig:
    path = folder / "fleet.toml"
    path.write_text(text)
    return load(FleetConfig, path)


def test_a_fleet_needs_a_name_and_a_host(tmp_path: Path) -> None:
    config = read(tmp_path, 'site = "plant"\nhosts = ["gateway.local", "192.168.1.5"]\n')
    assert config.certified_hosts == ("gateway.local", "192.168.1.5", "localhost", "127.0.0.1")
    ports = (config.broker.port, config.enrolment.port, config.enrolment.service_port)
    assert ports == (8883, 8884, 8885)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('site = "a/b"\nhosts = ["h"]', "site must be"),
        ('site = "a"\nhosts = []', "at least one"),
        ('site = "a"\nhosts = ["h\\nlistener 1883"]', "neither a host name nor an address"),
        ('site = "a"\nhosts = ["-h"]', "neither a host name nor an address"),
        ('site = "a"\nhosts = ["h"]\n[broker]\nport = 0', "port must be"),
        ('site = "a"\nhosts = ["h"]\n[broker]\naddress = "eth0"', "address must be"),
        ('site = "a"\nhosts = ["h"]\n[broker]\ndevices = 0', "devices must be"),
        ('site = "a"\nhosts = ["h"]\n[enrolment]\nport = 8883', "ports must differ"),
        ('site = "a"\nhosts = ["h"]\n[broker]\nprot = 1', "did you mean 'port'"),
    ],
)
def test_what_cannot_be_a_fleet_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path, text + "\n")


@pytest.mark.parametrize("text", ["gateway.digits", "gateway.a.b", "identity", "doctor"])
def test_a_role_is_read_as_it_is_written(text: str) -> None:
    role = parse_role(text)
    assert role.text == text
    assert role.common_name == f"_{text}"


@pytest.mark.parametrize(
    "text", ["", "gateway", "gateway.", "gateway._x", "identity.x", "cam-01", "gateway." + "a" * 56]
)
def test_what_is_no_role_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_role(text)


def test_no_role_has_a_name_that_a_device_can_have() -> None:
    for role in (Role(duty=Duty.GATEWAY, job="a"), Role(duty=Duty.IDENTITY)):
        with pytest.raises(ConfigError, match="a device's name is"):
            device_name(role.common_name)
