"""The lines of a report, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import DAY, Authority, now

from fedsparse.doctor.dates import certificate_row, clock_row
from fedsparse.doctor.grants import feature_rows, permission_rows
from fedsparse.doctor.machine import disk_row, folder_row, memory_row, versions_row
from fedsparse.doctor.row import Row, Verdict, document, exit_code, fail, fault, ok, warn
from fedsparse.doctor.visit import Errand, Findings
from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.connection import Greeting

MIB = 2**20


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], 0),
        ([ok("a", "1")], 0),
        ([ok("a", "1"), warn("b", "2", "do")], 1),
        ([warn("b", "2", "do"), fail("c", "3", "do"), ok("a", "1")], 2),
    ],
)
def test_the_worst_line_decides_the_exit_code(rows: Sequence[Row], code: int) -> None:
    assert exit_code(rows) == code
    assert document(rows)["exit_code"] == code
    assert len(document(rows)["checks"]) == len(rows)


def test_a_line_has_verdict_name_value_and_fix_and_nothing_a_terminal_obeys() -> None:
    line = fail("port", "no\n\x1b[31mroute", "plug it in").line
    assert line == "FAIL  port          no  [31mroute  -> plug it in"


def test_the_way_out_of_an_error_is_the_fix() -> None:
    assert fault("x", ConfigError("a is b; do c; then d"), "e").fix == "do c; then d"
    assert fault("x", ConfigError("a is b"), "e").fix == "e"


@pytest.mark.parametrize(
    ("begins", "ends", "verdict", "said"),
    [
        (-1 * DAY, 9 * DAY, Verdict.OK, "(9 days left)"),
        (-9 * DAY, 1 * DAY, Verdict.WARN, "(24 hours left)"),
        (-9 * DAY, -1 * DAY, Verdict.FAIL, "expired on"),
        (1 * DAY, 9 * DAY, Verdict.FAIL, "not valid before"),
    ],
)
def test_the_dates_of_a_certificate_are_judged(
    tmp_path: Path, begins: timedelta, ends: timedelta, verdict: Verdict, said: str
) -> None:
    today = now()
    pair = Authority(tmp_path).sign("pi", begins=today + begins, ends=today + ends)
    row = certificate_row("certificate", pair.certificate, today.timestamp(), "renew it")
    assert row.verdict is verdict
    assert said in row.value
    assert (row.fix == "") == (verdict is Verdict.OK)


def test_a_certificate_that_is_damaged_fails(tmp_path: Path) -> None:
    path = tmp_path / "device.pem"
    path.write_text("nothing")
    assert certificate_row("certificate", path, 0.0, "renew it").verdict is Verdict.FAIL


def test_a_clock_behind_what_has_passed_is_told() -> None:
    row = clock_row(1_000.0, 2_000_000_000.0)
    assert (row.verdict, row.fix) == (Verdict.WARN, "set it: timedatectl set-ntp true")
    assert clock_row(2_000_000_000.0, 1_000.0).verdict is Verdict.OK


def test_little_memory_is_told() -> None:
    assert memory_row(32 * MIB, "system").verdict is Verdict.WARN
    assert memory_row(900 * MIB, "system").verdict is Verdict.OK


def test_a_package_that_is_missing_fails_with_the_command_that_installs_it() -> None:
    row = versions_row(("paho-mqtt", "no-such-package"))
    assert row.verdict is Verdict.FAIL
    assert row.fix.endswith("-m pip install no-such-package")


@pytest.mark.parametrize(
    ("free_mib", "files", "verdict"),
    [(10_000, 10, Verdict.OK), (300, 10, Verdict.WARN), (9, 10, Verdict.FAIL),
     (10_000, 0, Verdict.FAIL)],
)  # fmt: skip
def test_room_on_the_disk_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, files: int, verdict: Verdict
) -> None:
    class Disk:
        f_bavail, f_frsize, f_files, f_favail = free_mib, MIB, 1_000, files

    monkeypatch.setattr("os.statvfs", lambda _: Disk)
    row = disk_row(tmp_path / "not" / "there")
    assert row.verdict is verdict
    assert ("make room" in row.fix) == (verdict is not Verdict.OK)


def test_a_folder_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder_row("store", tmp_path).verdict is Verdict.OK
    assert "is made at the first start" in folder_row("store", tmp_path / "a" / "b").value
    (tmp_path / "file").touch()
    assert "not a folder" in folder_row("store", tmp_path / "file").value
    assert folder_row("store", tmp_path / "file" / "a").verdict is Verdict.FAIL
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    assert "chown" in folder_row("store", tmp_path).fix
    assert "chown" in folder_row("store", tmp_path / "a").fix


def granted(**changed: object) -> Findings:
    given: dict[str, object] = {
        "resumed": True, "packet_bytes": None, "in_flight": None, "retains": True, "quality": 2,
    }  # fmt: skip
    greeting = Greeting(**(given | changed))  # type: ignore[arg-type]
    return Findings(version="5", greeting=greeting)


@pytest.mark.parametrize(
    ("changed", "verdict", "fix"),
    [
        ({"packet_bytes": 100}, Verdict.FAIL, "`max_packet_size` to 8192 at least"),
        ({"in_flight": 1}, Verdict.WARN, "`max_inflight_messages`"),
        ({"retains": False}, Verdict.FAIL, "allow retained payloads"),
        ({"quality": 0}, Verdict.FAIL, "allow QoS 1"),
    ],
)
def test_a_limit_of_the_broker_that_is_in_the_way_is_told(
    changed: dict[str, object], verdict: Verdict, fix: str
) -> None:
    bad = [one for one in feature_rows(BrokerConfig(), granted(**changed)) if one.fix]
    assert [one.verdict for one in bad] == [verdict]
    assert fix in bad[0].fix
    assert not [one for one in feature_rows(BrokerConfig(), granted()) if one.fix]


def test_an_answer_that_did_not_come_is_no_permission() -> None:
    found = granted()
    found.ended = "it broke off"
    (row,) = permission_rows(Errand(client_id="pi", says=("a/b",)), found, "allow it")
    assert (row.verdict, row.fix) == (Verdict.FAIL, "allow it")
    assert "it broke off" in row.value
