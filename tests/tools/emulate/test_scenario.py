"""Scenario files, and how they unfold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fleet_files import fleet_from

from fedsparse.errors import ConfigError
from tools.emulate.fleet_file import Fleet
from tools.emulate.scenario_file import Kind, Scenario, latecomers, load_scenario
from tools.emulate.script import Script

REBOOT = """
name = "one"
[[events]]
kind = "reboot"
devices = ["desk-1"]
round = 2
after_s = 1.0
for_s = 5.0
"""


def scenario_from(folder: Path, text: str) -> tuple[Fleet, Scenario]:
    fleet = fleet_from(folder)
    path = folder / "scenario.toml"
    path.write_text(text)
    return fleet, load_scenario(path, fleet)


def script_of(folder: Path, text: str) -> Script:
    fleet, scenario = scenario_from(folder, text)
    return Script(scenario, fleet)


def due(script: Script, now_s: float) -> list[tuple[str, str, bool]]:
    return [(act.device, act.kind.value, act.begins) for act in script.due(now_s)]


def event(name: str, **fields: object) -> dict[str, Any]:
    return {"event": name, **fields}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"reboot"', '"rebot"', "unknown kind 'rebot'; did you mean 'reboot'"),
        ('"reboot"', '"clock-jump"', "all processes share the clock on the wall"),
        ('"desk-1"', '"desk-7"', "number 1 .*no device is called 'desk-7'; did you mean 'desk-"),
        ('["desk-1"]', "[]", "name at least one"),
        ("round = 2", "", "give either at_s or round"),
        ("round = 2", "round = 2\nat_s = 1.0", "give either at_s or round"),
        ("round = 2", "round = 9", "round 9 never comes: the job has 3"),
        ("round = 2", "at_s = -1.0", "at_s must not be negative"),
        ("for_s = 5.0", "for_s = 0.0", "for_s must be positive"),
        ("for_s = 5.0", "for = 5.0", "unknown key 'for'"),
        ("for_s = 5.0", "factor = 0.0", "factor is a share"),
        ('"reboot"', '"join"', "a device that joins stays"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_event(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in REBOOT
    with pytest.raises(ConfigError, match=said) as caught:
        scenario_from(tmp_path, REBOOT.replace(old, new))
    assert "scenario.toml" in str(caught.value)


def test_a_fleet_of_which_all_are_late_is_refused(tmp_path: Path) -> None:
    text = 'name = "x"\n[[events]]\nkind = "join"\ndevices = ["*"]\nround = 1\n'
    with pytest.raises(ConfigError, match="every device joins late"):
        scenario_from(tmp_path, text)


def test_a_device_that_joins_twice_is_refused(tmp_path: Path) -> None:
    join = '[[events]]\nkind = "join"\ndevices = ["desk-1"]\nround = 1\n'
    with pytest.raises(ConfigError, match="'desk-1' joins twice"):
        scenario_from(tmp_path, f'name = "x"\n{join}{join}')


def test_who_joins_late_is_not_there_from_the_start(tmp_path: Path) -> None:
    text = 'name = "x"\n[[events]]\nkind = "join"\ndevices = ["desk"]\nround = 1\n'
    fleet, scenario = scenario_from(tmp_path, text)
    assert latecomers(scenario, fleet) == ["desk-1", "desk-2"]
    assert latecomers(None, fleet) == []


def test_a_reboot_comes_when_the_device_gets_its_task_and_ends_by_itself(tmp_path: Path) -> None:
    script = script_of(tmp_path, REBOOT)
    script.observe(event("task_sent", round=1, device="desk-1"), 5.0)
    script.observe(event("task_sent", round=2, device="desk-2"), 9.0)
    assert due(script, 100.0) == []
    script.observe(event("task_sent", round=2, device="desk-1"), 100.0)
    assert due(script, 100.9) == []
    assert script.is_busy
    assert due(script, 101.0) == [("desk-1", "reboot", True)]
    assert due(script, 105.9) == []
    assert due(script, 106.0) == [("desk-1", "reboot", False)]
    script.observe(event("task_sent", round=2, device="desk-1"), 107.0)  # its second try
    assert due(script, 200.0) == []
    assert not script.is_busy
    assert script.missed() == []


def test_times_count_from_the_start_of_the_job(tmp_path: Path) -> None:
    script = script_of(tmp_path, REBOOT.replace("round = 2\nafter_s = 1.0", "at_s = 30.0"))
    assert due(script, 50.0) == []
    script.observe(event("job_started"), 0.0)
    assert due(script, 29.9) == []
    assert due(script, 30.0) == [("desk-1", "reboot", True)]


def test_who_joins_comes_with_the_round_and_stays(tmp_path: Path) -> None:
    text = 'name = "x"\n[[events]]\nkind = "join"\ndevices = ["shelf"]\nround = 2\n'
    script = script_of(tmp_path, text)
    script.observe(event("round_opened", round=1), 1.0)
    script.observe(event("round_opened", round=2), 20.0)
    assert due(script, 20.0) == [("shelf", "join", True)]
    assert due(script, 2000.0) == []
    assert not script.is_busy


def test_what_never_came_is_told(tmp_path: Path) -> None:
    script = script_of(tmp_path, REBOOT)
    missed = script.missed()
    assert [(one.device, one.happening.sort) for one in missed] == [("desk-1", Kind.REBOOT)]


def test_no_scenario_is_no_event(tmp_path: Path) -> None:
    script = Script(None, fleet_from(tmp_path))
    script.observe(event("job_started"), 0.0)
    assert due(script, 1e6) == []


def test_what_could_not_be_done_is_not_ended_either(tmp_path: Path) -> None:
    script = script_of(tmp_path, REBOOT)
    script.observe(event("task_sent", round=2, device="desk-1"), 0.0)
    (act,) = script.due(1.0)
    script.give_up(act, "no room")
    assert due(script, 1000.0) == []
    assert [one.refusal for one in script.missed()] == ["no room"]
