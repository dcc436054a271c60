from __future__ import annotations

from pathlib import Path

import pytest
from machines import jetson_orin_nano, laptop, nothing, pi_5, pi_zero_2w, write

from edge_client.probe.heat import Zone, read_heat
from edge_client.probe.throttling import BITS, read_throttling

ZONE = "sys/class/thermal/thermal_zone0"


def no_firmware() -> None:
    return None


def test_a_pi_says_what_slows_it_down_and_what_has(tmp_path: Path) -> None:
    heat = read_heat(pi_zero_2w(tmp_path), no_firmware)
    assert (heat.celsius, heat.zone, heat.throttled) == (61.224, "cpu-thermal", True)
    assert heat.reasons == (
        "under-voltage", "throttled", "under-voltage since boot", "throttled since boot",
    )  # fmt: skip
    assert heat.unknown == ()


def test_a_pi_5_is_asked_by_its_command(tmp_path: Path) -> None:
    heat = read_heat(pi_5(tmp_path), lambda: "throttled=0x80008")
    assert heat.throttled is True
    assert heat.reasons == ("soft temperature limit", "soft temperature limit since boot")


def test_a_fan_that_turns_slows_nothing_down(tmp_path: Path) -> None:
    heat = read_heat(pi_5(tmp_path), no_firmware)
    assert heat.throttled is None
    assert any(line.startswith("throttling:") for line in heat.unknown)


@pytest.mark.parametrize("bit", sorted(BITS))
def test_each_flag_has_its_word_and_only_present_ones_slow_down(tmp_path: Path, bit: int) -> None:
    found = read_throttling(tmp_path, lambda: f"throttled={1 << bit:#x}")
    assert found.reasons == (BITS[bit],)
    assert found.now == (bit in (1, 2, 3))


@pytest.mark.parametrize("answer", ["", "error=1 error_msg=...", "throttled=0xzz", "-1", "f" * 40])
def test_an_answer_that_is_no_flags_is_unknown(tmp_path: Path, answer: str) -> None:
    found = read_throttling(tmp_path, lambda: answer)
    assert found.now is None
    assert found.reasons == ()
    assert any("get_throttled" in line for line in found.unknown)


def test_a_jetson_tells_by_cooling_devices_and_counts_its_alarms(tmp_path: Path) -> None:
    heat = read_heat(jetson_orin_nano(tmp_path), no_firmware)
    assert (heat.celsius, heat.zone, heat.throttled) == (52.156, "cpu-thermal", False)
    assert heat.reasons == ("over-current alarm 1: 2 since boot",)
    assert heat.zones == (
        Zone(type="cpu-thermal", celsius=52.156),
        Zone(type="gpu-thermal", celsius=None),
        Zone(type="tj-thermal", celsius=53.0),
    )
    assert any("-256000" in line for line in heat.unknown)


def test_a_jetson_that_is_too_hot_is_slowed_down(tmp_path: Path) -> None:
    write(jetson_orin_nano(tmp_path), {"sys/class/thermal/cooling_device0/cur_state": "1"})
    heat = read_heat(tmp_path, no_firmware)
    assert heat.throttled is True
    assert "cpu-throttle-alert at 1" in heat.reasons


def test_the_hottest_zone_of_the_processor_counts_and_no_other(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone10"
    write(laptop(tmp_path), {f"{zone}/type": "cpu-thermal", f"{zone}/temp": "61000"})
    heat = read_heat(tmp_path, no_firmware)
    assert (heat.celsius, heat.zone) == (66.0, "x86_pkg_temp")  # acpitz is at 90
    assert heat.throttled is True
    assert heat.reasons == ("Processor at 3",)


@pytest.mark.parametrize("text", ["", "hot", "-1000000", "1000000000", "48.5", "٣"])
def test_a_temperature_that_cannot_be_is_unknown(tmp_path: Path, text: str) -> None:
    write(tmp_path, {f"{ZONE}/type": "cpu-thermal"})
    (tmp_path / ZONE / "temp").write_text(text, encoding="utf-8")
    heat = read_heat(tmp_path, no_firmware)
    assert (heat.celsius, heat.zone) == (None, None)
    assert heat.zones == (Zone(type="cpu-thermal", celsius=None),)
    assert any(line.startswith("/sys/class/thermal/thermal_zone0/temp:") for line in heat.unknown)


def test_zones_of_other_parts_are_shown_but_not_taken_for_the_processor(tmp_path: Path) -> None:
    write(tmp_path, {f"{ZONE}/type": "iwlwifi_1", f"{ZONE}/temp": "40000"})
    heat = read_heat(tmp_path, no_firmware)
    assert heat.celsius is None
    assert heat.zones == (Zone(type="iwlwifi_1", celsius=40.0),)
    assert "temperature: none of iwlwifi_1 is the processor's" in heat.unknown


def test_a_machine_without_sensors_is_neither_cool_nor_hot(tmp_path: Path) -> None:
    heat = read_heat(nothing(tmp_path), no_firmware)
    assert (heat.celsius, heat.throttled, heat.reasons, heat.zones) == (None, None, (), ())
    assert len(heat.unknown) == 2
