"""The timeline: what events add up to, and the picture of it."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from typing import Any

import pytest
from recorded_run import event, recorded_run

from tools.emulate.timeline import Band, End, Mark, Row, Timeline
from tools.emulate.timeline_page import timeline_html
from tools.emulate.timeline_picture import timeline_svg

LEVELS = [0.2, 0.1]
TASK = event("task_sent", 10.0, device="a", round=1, level=0.1)


def row_after(*events: dict[str, Any], scale: float = 1.0) -> Row:
    opened: Iterable[dict[str, Any]] = (
        event("job_started", 0.0, levels=LEVELS),
        event("device_online", 2.0, device="a"),
        event("round_opened", 5.0, round=1, stage="train"),
    )
    return Timeline({"a": "board"}, scale).fold([*opened, *events]).rows["a"]


def closed(time_s: float) -> dict[str, Any]:
    sizes = {"a": {"up": 10, "down": 20}}
    return event("round_closed", time_s, round=1, stage="train", bytes=sizes)


def test_a_task_lasts_from_its_sending_to_its_update_in_the_boards_time() -> None:
    update = event("update", 14.0, device="a", round=1, train_s=1.5)
    row = row_after(TASK, update, closed(15.0), scale=2.0)
    (task,) = row.tasks
    assert (task.start_s, task.end_s, task.end) == (20.0, 28.0, End.DELIVERED)
    assert (task.train_s, task.bytes, task.level) == (3.0, 30, "0.1")
    assert (row.up_bytes, row.down_bytes, row.delivered) == (10, 20, 1)


def test_a_reboot_breaks_a_task_off_and_the_next_one_is_another() -> None:
    again = event("task_sent", 16.0, device="a", round=1, level=0.1)
    update = event("update", 20.0, device="a", round=1, train_s=1.0)
    reboot = event("happened", 12.0, device="a", kind="reboot")
    row = row_after(TASK, reboot, again, update, closed(21.0))
    assert [(task.end, task.end_s) for task in row.tasks] == [
        (End.BROKEN, 12.0),
        (End.DELIVERED, 20.0),
    ]
    assert [(time_s, mark) for time_s, mark, _ in row.marks] == [(12.0, Mark.KILLED)]


def test_what_is_not_there_when_the_round_closes_was_not_delivered() -> None:
    row = row_after(TASK, closed(30.0))
    assert [(task.end, task.end_s) for task in row.tasks] == [(End.LATE, 30.0)]
    assert row.delivered == 0


def test_a_cut_lasts_until_it_is_over_and_a_hot_board_to_the_end() -> None:
    row = row_after(
        event("happened", 11.0, device="a", kind="cut"),
        event("happened", 12.0, device="a", kind="hot", factor=0.5),
        event("over", 14.0, device="a", kind="cut"),
    )
    spells = {one.band: (one.start_s, one.end_s) for one in row.spells}
    assert spells[Band.CUT] == (11.0, 14.0)
    assert spells[Band.HOT] == (12.0, None)
    assert spells[Band.AWAY] == (0.0, 2.0)


def test_crashes_memory_kills_and_lost_groups_are_marked() -> None:
    row = row_after(
        TASK,
        event("client_ended", 11.0, device="a", exit_code=-11, given_up=False, last_line="ouch"),
        event("memory_kill", 12.0, device="a", processes=1),
        event("limits_lost", 13.0, device="a"),
    )
    assert [mark for _, mark, _ in row.marks] == [Mark.CRASHED, Mark.MEMORY, Mark.LIMITS]
    assert row.tasks[0].end is End.BROKEN
    assert row.mishaps == 3


def test_a_broker_that_dies_is_a_line_through_all_rows() -> None:
    timeline = Timeline({"a": "board"}, 1.0).fold([event("broker_ended", 3.0, exit_code=-9)])
    assert len(timeline.troubles) == 1
    assert 'class="trouble"' in timeline_svg(timeline)


def test_a_run_that_broke_off_at_once_has_a_page_too() -> None:
    summary, _ = recorded_run(3)
    summary["emulation"] |= {"finished": False, "ended_because": "no <broker>"}
    page = timeline_html(summary, [])
    assert "no &lt;broker&gt;" in page


@pytest.mark.parametrize("devices", [1, 5, 50])
def test_the_picture_is_well_formed_and_within_its_frame(devices: int) -> None:
    summary, events = recorded_run(devices)
    boards = {one["id"]: one["board"] for one in summary["emulation"]["devices"]}
    svg = timeline_svg(Timeline(boards, 2.0).fold(events))
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    space = "{http://www.w3.org/2000/svg}"
    rectangles = root.findall(f".//{space}rect")
    assert len(rectangles) > 6 * devices
    for one in rectangles:
        x, y = float(one.attrib["x"]), float(one.attrib["y"])
        assert 0 <= x <= x + float(one.attrib["width"]) <= width + 0.1
        assert 0 <= y <= y + float(one.attrib["height"]) <= height + 0.1
    for name in boards:
        assert f">{name}</text>" in svg


@pytest.mark.parametrize("devices", [5, 50])
def test_the_labels_of_devices_do_not_overlap(devices: int) -> None:
    summary, events = recorded_run(devices)
    boards = {one["id"]: one["board"] for one in summary["emulation"]["devices"]}
    svg = timeline_svg(Timeline(boards, 2.0).fold(events))
    found = re.findall(r'class="name" x="20" y="([\d.]+)" font-size="([\d.]+)"', svg)
    tops = [float(y) for y, _ in found]
    assert len(tops) == devices
    size = float(found[0][1])
    assert all(after - before >= size for before, after in itertools.pairwise(tops))


def test_the_page_needs_no_network_and_says_what_held_the_boards() -> None:
    page = timeline_html(*recorded_run(5))
    for word in ("src=", "@import", "url(http", "<link"):
        assert word not in page
    assert "duty cycle (approximate)" in page
    assert "fleet.toml" in page
