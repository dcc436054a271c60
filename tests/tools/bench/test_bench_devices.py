"""`fedsparse bench devices`: what it reads from a run, and what it makes of that."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_client.calibration import Calibration, LevelTiming
from edge_client.emulation.host_speed import given_speed
from tools.bench.devices.cases import BOARDS, MODELS, bad_link, idle_fleet, one_board, small_board
from tools.bench.devices.command import Results, devices_table
from tools.bench.devices.idle import measure_idle
from tools.bench.devices.link import LinkResult, read_link
from tools.bench.devices.rows import Row, read_row
from tools.bench.tolerance import memory_holds, time_holds
from tools.cli import app
from tools.demo.views import QuietView
from tools.emulate.pace import Machine, find_pace

RUNNER = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
MB = 10**6
ENTRY = {
    "up": 0, "down": 0, "up_mask": 0, "down_mask": 100, "down_plan": 300,
    "ideal_up": 40_000, "ideal_down": 60_000,
}  # fmt: skip


def ready(number: int, predicted_s: float) -> dict[str, Any]:
    return {
        "event": "device_ready", "round": number, "predicted_round_s": predicted_s, "level": 0.1,
    }  # fmt: skip


def trained(number: int, began_s: float, took_s: float, **changes: object) -> list[dict[str, Any]]:
    update = {
        "event": "update", "round": number, "stage": "train", "level": 0.1, "peak_rss_mb": 41.0,
        "agent_rss_mb": 27.0, "time_s": began_s + took_s,
    }  # fmt: skip
    sent = {"event": "task_sent", "round": number, "time_s": began_s}
    return [ready(number, 10.0), sent, {**update, **changes}]


def decision(level: float = 0.1) -> dict[str, Any]:
    return {
        "version": 1,
        "reason": "0.1: sparse",
        "rows": [{"level": level, "peak_bytes": 69 * MB}, {"level": 0.05, "peak_bytes": 1}],
        "means": {"agent_bytes": 27 * MB, "correction": {"memory_factor": 1.0}},
    }


def run_folder(
    folder: Path,
    events: list[dict[str, Any]],
    *,
    document: dict[str, Any] | None = None,
    kills: int | None = 0,
    ended: int = 0,
) -> Path:
    """What a run leaves, as far as it is read."""
    held = {"mechanism": "cgroup v2", "approximate": False, "parameters": {"share": 0.2}}
    device = {
        "id": "board",
        "figures": {
            "memory_bytes": {"value": 348 * 2**20, "basis": "estimated"},
            "multiply_adds_per_s": {"value": 5e8, "basis": "estimated"},
            "up_bytes_per_s": {"value": None, "basis": "unknown"},
            "down_bytes_per_s": {"value": None, "basis": "unknown"},
        },
        "limits": {"memory": held, "cpu": held, "link": {**held, "mechanism": "proxy"}},
        "usage": {"memory_kills": kills, "up_bytes": 100_000, "down_bytes": 110_400},
        "client_ended": ended,
    }
    store = folder / "devices/board/store"
    (store / "calibrations").mkdir(parents=True)
    timing = LevelTiming(
        step_s={32: 1.0}, multiply_adds=1, engine="sparse", threads=1, shared_work=0, layers={}
    )
    calibration = Calibration(
        plan_digest="0" * 64, batch_size=32, levels={0.1: timing}, baseline_bytes=32 * MB
    )
    (store / "calibrations/one.json").write_text(calibration.to_json())
    (store / "decision.json").write_text(json.dumps(document or decision()))
    emulation = {"devices": [device], "time_scale": 3.0}
    (folder / "summary.json").write_text(json.dumps({"emulation": emulation, "wall_s": 9.0}))
    lines = [json.dumps({"device": "board", **event}) for event in events]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def row_of(folder: Path, events: list[dict[str, Any]], **changes: Any) -> Row:  # noqa: ANN401
    return read_row(run_folder(folder, events, **changes), "a-board", "har")


def test_a_row_holds_what_was_predicted_against_what_was_measured(tmp_path: Path) -> None:
    events = [
        ready(0, 3.0),
        *trained(1, 10.0, 9.0),
        *trained(2, 20.0, 9.5, peak_rss_mb=42.0),
        *trained(3, 30.0, 30.0),
    ]
    row = row_of(tmp_path, events)
    assert (row.level, row.time_scale, row.killed, row.broken) == (0.1, 3.0, 0, 0)
    assert (row.predicted_peak_mb, row.peak_mb) == (69.0, 69.0)
    assert row.predicted_increase_mb == pytest.approx(69 - 27 - 32)
    assert row.increase_mb == pytest.approx(42 - 32)
    assert (row.predicted_round_s, row.round_s) == (10.0, 9.5)
    assert [one.measured_s for one in row.rounds] == [9.0, 9.5, 30.0]
    assert row.memory_holds
    assert row.time_holds
    assert row.promise_holds
    assert row.to_document()["limits"]["memory"] == "348 MiB, cgroup v2, estimated"


def test_what_was_foretold_and_not_measured_does_not_hold() -> None:
    assert not time_holds(10.0, 0.0)
    assert not memory_holds(10.0, 0.0)
    assert time_holds(0.0, 0.0)


def test_rounds_at_another_level_are_not_mixed_with_the_chosen_one(tmp_path: Path) -> None:
    events = [
        *trained(1, 0.0, 9.0), *trained(2, 10.0, 9.0),
        *trained(3, 20.0, 2.0, level=0.05, peak_rss_mb=90.0),
    ]  # fmt: skip
    row = row_of(tmp_path, events)
    assert (row.level, row.round_s, row.increase_mb) == (0.1, 9.0, pytest.approx(9.0))


def test_memory_is_judged_by_what_was_foretold_before_anything_was_learnt(tmp_path: Path) -> None:
    learnt = decision()
    learnt["means"]["correction"]["memory_factor"] = 1.05
    learnt["rows"][0]["peak_bytes"] = int((27 + 1.05 * 42) * MB)
    row = row_of(tmp_path, trained(1, 0.0, 9.0), document=learnt)
    assert row.predicted_peak_mb == pytest.approx(69.0)


def test_a_task_that_is_sent_again_began_when_it_was_sent_first(tmp_path: Path) -> None:
    answer, task, update = trained(1, 0.0, 9.0)
    row = row_of(tmp_path, [answer, task, {**task, "time_s": 5.0}, update])
    assert row.round_s == 9.0
    assert row.broken == 0


def test_the_round_of_stage_1_is_not_one_of_training(tmp_path: Path) -> None:
    sense = trained(0, 0.0, 1.0, stage="sense", level=0.2)
    row = row_of(tmp_path, [*sense, *trained(1, 10.0, 9.0)])
    assert (row.level, row.round_s) == (0.1, 9.0)
    assert [one.stage for one in row.rounds] == ["sense", "train"]
    only = row_of(tmp_path / "only", sense)
    assert only.level is None


def test_other_devices_of_a_run_say_nothing_of_this_one(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, trained(1, 0.0, 9.0))
    path = folder / "events.jsonl"
    others = [{"device": "neighbour", **one} for one in trained(2, 20.0, 1.0)[:2]]
    path.write_text(path.read_text() + "".join(json.dumps(one) + "\n" for one in others))
    row = read_row(folder, "a-board", "har")
    assert (row.broken, row.error) == (0, "")


def test_the_latest_calibration_says_what_a_trainer_has_before_it_begins(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, trained(1, 0.0, 9.0))
    one = folder / "devices/board/store/calibrations/one.json"
    document = Calibration.from_json(one.read_bytes())
    other = one.with_name("a-later-one.json")
    other.write_text(replace(document, baseline_bytes=30 * MB).to_json())
    os.utime(one, (1_000, 1_000))
    assert read_row(folder, "a-board", "har").increase_mb == pytest.approx(41 - 30)


def test_a_device_that_declined_has_no_figures_and_breaks_no_promise(tmp_path: Path) -> None:
    row = row_of(tmp_path, [{**ready(1, 10.0), "level": None}])
    assert row.level is None
    assert row.holds
    assert row.reason == "0.1: sparse"


@pytest.mark.parametrize(
    ("events", "said"),
    [([], "no answer"), ([ready(1, 10.0)], "trained nothing"), (trained(1, 0.0, 1.0)[:2], "noth")],
    ids=["silent", "accepted", "late"],
)
def test_one_that_trained_nothing_without_declining_does(
    tmp_path: Path, events: list[dict[str, Any]], said: str
) -> None:
    row = row_of(tmp_path, events)
    assert said in row.error
    assert not row.holds


@pytest.mark.parametrize(
    "changes", [{"kills": 1}, {"kills": None}, {"ended": 1}], ids=["killed", "unknown", "ended"]
)
def test_a_promise_that_was_broken_shows(tmp_path: Path, changes: dict[str, int]) -> None:
    row = row_of(tmp_path, trained(1, 0.0, 9.0), **changes)
    assert not row.promise_holds
    assert not row.holds


def test_a_task_without_an_update_is_a_broken_promise(tmp_path: Path) -> None:
    row = row_of(tmp_path, [*trained(1, 0.0, 9.0), *trained(2, 10.0, 9.0)[:2]])
    assert (row.broken, row.promise_holds) == (1, False)


@pytest.mark.parametrize(
    ("predicted_mb", "measured_mb", "holds"),
    [
        (10.0, 10.0, True), (11.4, 10.0, True), (11.6, 10.0, False), (9.8, 10.0, True),
        (9.6, 10.0, False), (2.9, 2.0, True), (3.1, 2.0, False),
        (9.71, 10.0, True), (9.69, 10.0, False), (1.93, 2.0, False), (0.0, 0.0, True),
    ],
)  # fmt: skip
def test_memory_may_be_off_by_a_share_and_hardly_below(
    tmp_path: Path, predicted_mb: float, measured_mb: float, holds: bool
) -> None:
    row = row_of(tmp_path, trained(1, 0.0, 9.0))
    changed = replace(row, predicted_increase_mb=predicted_mb, increase_mb=measured_mb)
    assert changed.memory_holds is holds


@pytest.mark.parametrize(
    ("predicted_s", "holds"), [(7.4, False), (7.6, True), (12.4, True), (12.6, False)]
)
def test_time_may_be_off_by_a_quarter(tmp_path: Path, predicted_s: float, holds: bool) -> None:
    row = replace(row_of(tmp_path, trained(1, 0.0, 10.0)), predicted_round_s=predicted_s)
    assert row.time_holds is holds


def test_the_table_marks_what_does_not_hold(tmp_path: Path) -> None:
    row = row_of(tmp_path, trained(1, 0.0, 4.0))
    table = devices_table(Results(rows=[row], small=[replace(row, level=None)]))
    cells = [list(column.cells) for column in table.columns]
    assert [column[0] for column in cells[2:]] == [
        "0.1", "10.0", "9.0", "+11%", "10.0", "4.0", "+150%!", "yes",
    ]  # fmt: skip
    assert cells[2][1] == "declined"


def test_bytes_through_the_link_are_held_against_the_payload(tmp_path: Path) -> None:
    events = [
        {"event": "device_offline"},
        {"event": "round_closed", "updates": 1, "bytes": {"board": ENTRY}},
        {"event": "round_closed", "updates": 1, "bytes": {"board": {**ENTRY, "ideal_down": 10**6}}},
    ]
    result = read_link(run_folder(tmp_path, events), 2)
    assert (result.rounds, result.offline, result.mechanism) == (2, 1, "proxy")
    assert result.payload_bytes == 2 * 100_100  # what was sent again is none
    assert result.ratio == pytest.approx(210_400 / 200_200)
    assert result.holds


@pytest.mark.parametrize(
    "change", [{"rounds": 9}, {"sent_bytes": 116}, {"payload_bytes": 0}, {"error": "broke off"}]
)
def test_a_link_that_loses_rounds_or_sends_too_much_does_not_hold(change: dict[str, Any]) -> None:
    good = LinkResult(
        rounds=10, wanted=10, offline=0, payload_bytes=100, sent_bytes=115, mechanism="proxy",
        wall_s=1.0,
    )  # fmt: skip
    assert good.holds
    assert not replace(good, **change).holds


def test_every_case_is_a_fleet_that_can_be() -> None:
    assert len(BOARDS) == 8
    fleets = [one_board(board, model, 8) for board in BOARDS for model in MODELS]
    fleets += [small_board(model, 61.0, 0.5) for model in MODELS]
    fleets += [bad_link(8), idle_fleet(50)]
    assert len({fleet.name for fleet in fleets}) == len(fleets)
    host = Machine(
        processors=2, memory_bytes=32 * 2**30, free_bytes=24 * 2**30, speed=given_speed(24e9)
    )
    for fleet in fleets:
        assert find_pace(fleet, host).scale.factor > 0


def test_clients_that_wait_are_measured_while_they_are_connected(tmp_path: Path) -> None:
    idle = measure_idle(idle_fleet(2), tmp_path / "idle", QuietView())
    assert idle.clients == 2
    assert 10 < idle.pss_median_mb <= idle.rss_median_mb <= idle.rss_mb
    assert idle.holds, idle


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--boards", "raspbery-pi-5-8gb", "did you mean"), ("--models", "gpt", "unknown model 'gpt'")],
)
def test_what_nobody_knows_is_refused_before_anything_runs(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    output = tmp_path / "devices.json"
    result = RUNNER.invoke(app, ["bench", "devices", option, value, "--output", str(output)])
    assert result.exit_code != 0
    assert said in f"{result.output} {result.exception}"
    assert not output.exists()


def test_in_the_payload_each_direction_is_that_of_the_round_that_sent_it_once(
    tmp_path: Path,
) -> None:
    """In one round the update came twice, in another the task; in a third nobody was there."""
    entries = [{**ENTRY, "ideal_up": 10**6}, {**ENTRY, "ideal_down": 10**6}]
    events = [{"event": "round_closed", "updates": 1, "bytes": {"board": one}} for one in entries]
    events.append({"event": "round_closed", "updates": 0, "bytes": {}})
    result = read_link(run_folder(tmp_path, events), 3)
    assert result.payload_bytes == 2 * 100_100
    assert (result.rounds, result.holds) == (2, False)
