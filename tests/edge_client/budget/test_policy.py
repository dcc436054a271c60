"""When a device may train, by the policy of its owner."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from device_readings import heat, power
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.policy import (
    BatteryPolicy,
    HoursPolicy,
    Moment,
    Policy,
    ProcessesPolicy,
    TemperaturePolicy,
    judge,
    too_hot,
)
from edge_client.budget.policy_file import PolicyFile
from fedsparse.config import build
from fedsparse.errors import ConfigError

ZONE = timezone(timedelta(hours=2))


def at(text: str, year: int = 2027) -> Moment:
    hour, minute = map(int, text.split(":"))
    now = datetime(year, 1, 1, hour, minute, tzinfo=ZONE)
    return Moment(now=now, heat=heat(), power=power())


NOON = at("12:00")


def on(source: str | None, percent: int | None = None) -> Moment:
    return replace(NOON, power=power(source, percent))


def warm(celsius: float | None) -> Moment:
    return replace(NOON, heat=heat(celsius))


def test_without_a_rule_everything_is_allowed() -> None:
    verdict = judge(Policy(), NOON)
    assert verdict.allows
    assert verdict.rulings == ()
    assert verdict.reason == ""


@pytest.mark.parametrize(
    ("time", "allows"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("06:29", True),
     ("06:30", False)],
)  # fmt: skip
def test_a_window_may_cross_midnight_and_ends_before_its_end(time: str, allows: bool) -> None:
    policy = Policy(hours=HoursPolicy(allow=("22:00-06:30",)))
    verdict = judge(policy, at(time))
    assert verdict.allows == allows
    if not allows:
        assert verdict.reason == f"declined by policy: it is {time}, allowed 22:00-06:30"


def test_forbidden_hours_are_taken_from_the_allowed_ones() -> None:
    policy = Policy(
        hours=HoursPolicy(allow=("08:00-12:00", "13:00-17:00"), forbid=("09:00-10:00",))
    )
    allowed = [f"{hour:02}:30" for hour in range(24) if judge(policy, at(f"{hour:02}:30")).allows]
    assert allowed == ["08:30", "10:30", "11:30", "13:30", "14:30", "15:30", "16:30"]
    all_but_one = Policy(hours=HoursPolicy(forbid=("09:00-10:00",)))
    assert judge(all_but_one, at("08:00")).allows
    assert not judge(all_but_one, at("09:59")).allows


def test_a_whole_day_is_from_midnight_to_24() -> None:
    assert len(HoursPolicy(allow=("00:00-24:00",)).minutes) == 24 * 60


@pytest.mark.parametrize(
    ("hours", "complaint"),
    [
        ({"allow": ["10:00-10:00"]}, "has no length; a whole day is 00:00-24:00"),
        ({"forbid": ["00:00-24:00"]}, "never allow training"),
        ({"forbid": ["00:00-12:00", "12:00-24:00"]}, "never allow training"),
        ({"allow": ["10:00-11:00"], "forbid": ["09:00-12:00"]}, "never allow training"),
        ({"allow": ["10-11"]}, "is written as 22:00-06:30"),
        ({"allow": ["25:00-26:00"]}, "is written as"),
        ({"allow": ["24:00-06:00"]}, "ends at 24:00"),
        ({"allow": ["20:00-24:30"]}, "ends at 24:00"),
        ({"when_unknown": "maybe"}, "when_unknown must be allow or forbid"),
        ({"only": []}, "unknown key 'only'"),
    ],
)
def test_hours_that_make_no_sense_are_refused(
    hours: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint) as error:
        build(Policy, {"hours": hours}, where="policy.toml", base=tmp_path)
    assert "policy.toml: hours" in str(error.value)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"battery": {"min_percent": 101}}, "min_percent must be 0 to 100"),
        ({"temperature": {"max_celsius": 5}}, "never allows training"),
        ({"temperature": {"max_celsius": 500}}, "never forbids it"),
        ({"processes": {"forbid": [""]}}, "`ps -o comm` shows it"),
        ({"processes": {"forbid": ["/usr/bin/ffmpeg"]}}, "`ps -o comm` shows it"),
        ({"processes": {"forbid": ["x"] * 33}}, "at most 32"),
        ({"hour": {}}, "did you mean 'hours'"),
    ],
)
def test_other_rules_that_make_no_sense_are_refused(
    table: dict[str, dict[str, object]], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(Policy, table, where="policy.toml", base=tmp_path)


@pytest.mark.parametrize(("choice", "allows"), [("allow", True), ("forbid", False)])
def test_a_clock_that_is_not_set_says_nothing_of_the_hour(choice: str, allows: bool) -> None:
    policy = Policy(hours=HoursPolicy(allow=("22:00-06:30",), when_unknown=choice))
    verdict = judge(policy, at("12:00", year=1970))
    assert verdict.allows == allows
    assert "the clock is not set (it says 1970)" in verdict.rulings[0].because


def test_a_clock_that_jumps_counts_from_the_next_offer_on() -> None:
    policy = Policy(hours=HoursPolicy(allow=("22:00-06:30",)))
    assert [judge(policy, at(time)).allows for time in ("23:00", "12:00", "23:00")] == [
        True,
        False,
        True,
    ]


def test_on_battery_there_is_no_training_where_that_is_forbidden() -> None:
    policy = Policy(battery=BatteryPolicy(allow=False))
    assert judge(policy, on("mains", 3)).allows
    assert judge(policy, on("battery", 100)).reason == "declined by policy: power from battery"


def test_a_battery_must_have_the_charge_asked_for() -> None:
    policy = Policy(battery=BatteryPolicy(min_percent=60))
    assert judge(policy, on("battery", 60)).allows
    low = judge(policy, on("battery", 59))
    assert low.reason == "declined by policy: battery at 59 of 60 %"
    assert judge(policy, on("mains", 10)).allows  # it is being charged


def test_heat_above_the_limit_forbids_and_ends_what_runs() -> None:
    policy = Policy(temperature=TemperaturePolicy(max_celsius=70))
    assert judge(policy, warm(70.0)).allows
    assert judge(policy, warm(70.1)).reason == "declined by policy: 70.1 of 70 C"
    assert too_hot(policy, heat(70.0)) == ""
    assert too_hot(policy, heat(75.5)) == "stopped by policy: 75.5 C is above 70 C"
    assert too_hot(policy, heat()) == ""
    assert too_hot(Policy(), heat(99.0)) == ""


@pytest.mark.parametrize(("choice", "allows"), [("allow", True), ("forbid", False)])
@pytest.mark.parametrize(
    ("moment", "because"),
    [
        (on(None), "the source of power is unknown"),
        (on("battery"), "the battery's charge is unknown"),
        (on("mains"), "the temperature is unknown"),
    ],
)
def test_what_cannot_be_read_forbids_only_where_the_policy_says_so(
    moment: Moment, because: str, choice: str, allows: bool
) -> None:
    policy = Policy(
        battery=BatteryPolicy(min_percent=50, when_unknown=choice),
        temperature=TemperaturePolicy(max_celsius=70, when_unknown=choice),
    )
    verdict = judge(policy, moment)
    assert verdict.allows == allows
    assert because in [ruling.because for ruling in verdict.rulings]


def test_a_program_that_comes_first_is_named() -> None:
    policy = Policy(processes=ProcessesPolicy(forbid=("ffmpeg", "motion")))
    assert judge(policy, NOON).allows
    one = judge(policy, replace(NOON, running=("ffmpeg",)))
    assert one.reason == "declined by policy: ffmpeg runs"
    both = judge(policy, replace(NOON, running=("ffmpeg", "motion")))
    assert both.reason == "declined by policy: ffmpeg, motion run"


def test_every_rule_against_is_in_the_reason() -> None:
    policy = Policy(
        hours=HoursPolicy(forbid=("11:00-13:00",)), processes=ProcessesPolicy(forbid=("ffmpeg",))
    )
    reason = judge(policy, replace(NOON, running=("ffmpeg",))).reason
    assert reason == "declined by policy: it is 12:00, forbidden 11:00-13:00; ffmpeg runs"


@given(start=st.integers(0, 1439), end=st.integers(0, 1440), now=st.integers(0, 1439))
def test_a_window_and_its_complement_share_no_minute(start: int, end: int, now: int) -> None:
    if start % 1440 == end % 1440:
        return
    window = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    moment = at(f"{now // 60:02}:{now % 60:02}")
    inside = judge(Policy(hours=HoursPolicy(allow=(window,))), moment).allows
    outside = judge(Policy(hours=HoursPolicy(forbid=(window,))), moment).allows
    assert inside != outside


# The file


def write(path: Path, text: str, age: int) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(10**18 + age, 10**18 + age))


def test_a_policy_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[battery]\nmin_percent = 50\n", 1)
    file = PolicyFile(path)
    assert file.current().battery.min_percent == 50
    write(path, "[battery]\nmin_percent = 60\n", 2)
    assert file.current().battery.min_percent == 60


@pytest.mark.parametrize("text", ["[battery", "[battery]\nmin_percent = 500\n", None])
def test_a_broken_edit_keeps_the_last_good_policy_and_is_logged_once(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[battery]\nmin_percent = 50\n", 1)
    file = PolicyFile(path)
    if text is None:
        path.unlink()
    else:
        write(path, text, 2)
    for _ in range(3):
        assert file.current().battery.min_percent == 50
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "policy.toml" in errors[0].getMessage()
    write(path, "[battery]\nmin_percent = 70\n", 3)
    assert file.current().battery.min_percent == 70


def test_a_broken_policy_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml: no such file"):
        PolicyFile(tmp_path / "policy.toml")
    (tmp_path / "policy.toml").write_text("[hours]\nallow = ['09:00-09:00']\n")
    with pytest.raises(ConfigError, match="has no length"):
        PolicyFile(tmp_path / "policy.toml")


def test_no_file_allows_everything() -> None:
    assert PolicyFile(None).current() == Policy()
