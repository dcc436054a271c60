from __future__ import annotations

from pathlib import Path

import pytest
from machines import laptop, pi_5, write

from edge_client.probe.power import read_power

SUPPLY = "sys/class/power_supply"


def test_a_laptop_runs_on_its_battery_and_not_on_its_mouse(tmp_path: Path) -> None:
    power = read_power(laptop(tmp_path))
    assert (power.source, power.battery_percent, power.unknown) == ("battery", 57, ())


def test_a_laptop_that_is_plugged_in_runs_on_the_mains(tmp_path: Path) -> None:
    write(laptop(tmp_path), {f"{SUPPLY}/AC/online": "1", f"{SUPPLY}/BAT0/status": "Charging"})
    assert read_power(tmp_path).source == "mains"


def test_a_board_without_supplies_is_unknown(tmp_path: Path) -> None:
    power = read_power(pi_5(tmp_path))
    assert (power.source, power.battery_percent) == (None, None)
    assert power.unknown == ("power source: no supply in /sys/class/power_supply",)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("Charging", "mains"), ("Discharging", "battery"), ("Full", None), ("Unknown", None)],
)
def test_a_battery_alone_tells_by_its_status(
    tmp_path: Path, status: str, expected: str | None
) -> None:
    write(tmp_path, {f"{SUPPLY}/b/type": "Battery", f"{SUPPLY}/b/status": status})
    power = read_power(tmp_path)
    assert power.source == expected
    assert bool(power.unknown) == (expected is None)


def test_a_usb_supply_feeds_as_the_mains_do(tmp_path: Path) -> None:
    write(tmp_path, {f"{SUPPLY}/ucsi/type": "USB", f"{SUPPLY}/ucsi/online": "1"})
    assert read_power(tmp_path).source == "mains"


@pytest.mark.parametrize("charge", ["-1", "101", "half", "1000000000"])
def test_a_charge_that_cannot_be_is_unknown(tmp_path: Path, charge: str) -> None:
    write(laptop(tmp_path), {f"{SUPPLY}/BAT0/capacity": charge})
    power = read_power(tmp_path)
    assert (power.source, power.battery_percent) == ("battery", None)
    assert any(charge in line for line in power.unknown)
