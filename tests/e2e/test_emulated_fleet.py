"""Real clients on emulated boards: a job survives what happens to them, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from missing_tool import leave_out

from edge_client.emulation.groups import KINDS
from edge_client.emulation.namespace import NAMED
from edge_client.emulation.report import Resource
from tools.demo.state import RunState
from tools.demo.views import QuietView
from tools.emulate.fleet_file import Fleet, load_fleet
from tools.emulate.outcome import Outcome
from tools.emulate.run import run_fleet
from tools.emulate.scenario_file import load_scenario

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]

PATIENCE_S = 60.0
GROUPS = Path("/sys/fs/cgroup")
FLEET = """
name = "small"
seed = 5

[[groups]]
name = "desk"
board = "raspberry-pi-4b-2gb"
count = 2

[[groups]]
name = "shelf"
board = "raspberry-pi-5-8gb"
link = {{ up_bytes_per_s = 2_000_000, down_bytes_per_s = 4_000_000 }}

[job]
rounds = 3
participation = {participation}
deadline_s = 90.0
gather_s = 600.0
offline_grace_s = 90.0
method = {{ name = "pdst", levels = [0.2, 0.1] }}
"""
MISHAPS = """
name = "mishaps"

[[events]]
kind = "reboot"
devices = ["desk-1"]
round = 1
for_s = 3.0

[[events]]
kind = "cut"
devices = ["shelf"]
round = 2
for_s = 8.0
"""

COMINGS_AND_GOINGS = """
name = "comings-and-goings"

[[events]]
kind = "join"
devices = ["desk-2"]
round = 2

[[events]]
kind = "hot"
devices = ["shelf"]
round = 1
for_s = 20.0

[[events]]
kind = "disk-full"
devices = ["shelf"]
round = 2
for_s = 10.0

[[events]]
kind = "leave"
devices = ["desk-1"]
round = 3
"""

Step = tuple[Callable[[RunState], bool], Callable[[], None]]


class Saboteur(QuietView):
    """Does this and that, each once, when the run has come to a point; remembers what was said."""

    def __init__(self, *steps: Step) -> None:
        self.said: list[str] = []
        self._steps = list(steps)

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, state: RunState) -> None:
        for step in [one for one in self._steps if one[0](state)]:
            self._steps.remove(step)
            step[1]()


def small_fleet(folder: Path, participation: float = 1.0) -> Fleet:
    (folder / "fleet.toml").write_text(FLEET.format(participation=participation))
    return load_fleet(folder / "fleet.toml")


def events_of(outcome: Outcome) -> list[dict[str, Any]]:
    lines = (outcome.summary_file.parent / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def has(events: list[dict[str, Any]], name: str, **fields: object) -> bool:
    return any(
        one["event"] == name and all(one.get(key) == value for key, value in fields.items())
        for one in events
    )


def ours(word: str) -> psutil.Process:
    """What this test's run started, with a word in its command line."""
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # and zombies, which are such for psutil
            if word in " ".join(one.cmdline()):
                return one
    raise AssertionError(f"nothing runs with {word}")


def left_over(pid: int) -> list[str]:
    """Groups and namespaces of a process's places, and processes that mention nothing else."""
    namespaces = NAMED.iterdir() if NAMED.is_dir() else ()
    groups = GROUPS.glob("**/fedsparse-*")
    names = [one.name for one in (*namespaces, *groups)]
    return [name for name in names if name.startswith("fedsparse-") and f"-{pid}-" in name]


def in_round(number: int) -> Callable[[RunState], bool]:
    return lambda state: state.round_id == number


def is_online(device: str) -> Callable[[RunState], bool]:
    return lambda state: device in state.devices


def test_two_runs_of_a_scenario_assign_the_same_and_a_reboot_and_a_cut_end_no_job(
    tmp_path: Path,
) -> None:
    fleet = small_fleet(tmp_path, participation=0.6)
    (tmp_path / "scenario.toml").write_text(MISHAPS)
    scenario = load_scenario(tmp_path / "scenario.toml", fleet)
    outcomes = [
        run_fleet(fleet, scenario, tmp_path / name, QuietView()) for name in ("first", "second")
    ]
    first, second = (one.summary["emulation"]["rounds"] for one in outcomes)
    assert first == second
    assert [one["round"] for one in first] == [1, 2, 3]
    assert len({tuple(one["levels"]) for one in first}) == 3  # two of three, others each time
    assert all(len(one["levels"]) == 2 for one in first)
    emulation = outcomes[0].summary["emulation"]
    assert emulation["did_not_happen"] == []
    for device in emulation["devices"]:
        held = device["limits"][Resource.MEMORY.value]
        assert held["mechanism"] in {one.value for one in KINDS.values()} | {"RLIMIT_AS"}
        assert device["figures"]["multiply_adds_per_s"]["basis"] == "estimated"
    events = events_of(outcomes[0])
    assert has(events, "happened", device="desk-1", kind="reboot")
    assert has(events, "over", device="shelf", kind="cut")
    assert sum(one["event"] == "client_started" for one in events) == 4
    page = outcomes[0].timeline_file.read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    assert left_over(os.getpid()) == []


def test_who_is_late_hot_full_or_gone_ends_no_job(tmp_path: Path) -> None:
    fleet = small_fleet(tmp_path)
    fleet = replace(fleet, job=replace(fleet.job, rounds=5))
    (tmp_path / "scenario.toml").write_text(COMINGS_AND_GOINGS)
    scenario = load_scenario(tmp_path / "scenario.toml", fleet)
    outcome = run_fleet(fleet, scenario, tmp_path / "run", QuietView())
    emulation, events = outcome.summary["emulation"], events_of(outcome)
    assert emulation["finished"]
    assert emulation["did_not_happen"] == []
    levels = {one["round"]: set(one["levels"]) for one in emulation["rounds"]}
    assert levels[1] == {"desk-1", "shelf"}
    assert any("desk-2" in levels[number] for number in (2, 3, 4, 5))
    assert "desk-1" not in levels[5]
    done = ("join", "desk-2"), ("hot", "shelf"), ("disk-full", "shelf"), ("leave", "desk-1")
    assert all(has(events, "happened", kind=kind, device=device) for kind, device in done)
    assert has(events, "over", kind="hot", device="shelf")
    assert has(events, "over", kind="disk-full", device="shelf")
    assert left_over(os.getpid()) == []


def test_a_client_a_broker_and_an_aggregator_that_die_are_started_again(tmp_path: Path) -> None:
    def crash() -> None:
        ours("desk-2/client.toml").send_signal(signal.SIGSEGV)
        ours("mosquitto.conf").kill()

    view = Saboteur(
        (in_round(2), crash), (in_round(3), lambda: ours("tools.cli aggregator").kill())
    )
    outcome = run_fleet(small_fleet(tmp_path), None, tmp_path / "out", view)
    events = events_of(outcome)
    assert has(events, "client_ended", device="desk-2", exit_code=-signal.SIGSEGV)
    assert has(events, "broker_ended", exit_code=-signal.SIGKILL)
    assert has(events, "aggregator_ended", exit_code=-signal.SIGKILL)
    assert outcome.summary["emulation"]["restarts"] == {"broker": 1, "aggregator": 1}
    assert any("desk-2: its client ended" in text for text in view.said)
    times = [one["time_s"] for one in events]
    assert times[-1] == max(times)
    assert outcome.summary["emulation"]["rounds"][-1]["round"] == 3


def test_a_board_whose_control_group_goes_is_made_anew(tmp_path: Path) -> None:
    def steal() -> None:
        client = ours("desk-1/client.toml")
        found = [
            folder
            for folder in GROUPS.glob("**/fedsparse-*")
            if str(client.pid) in (folder / "cgroup.procs").read_text().split()
        ]
        if not found:
            leave_out("no control group can be made here; it takes root, or a delegated one")
        unified = (GROUPS / "cgroup.procs").exists()
        root = GROUPS if unified else GROUPS / found[0].relative_to(GROUPS).parts[0]
        for pid in (found[0] / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        found[0].rmdir()

    outcome = run_fleet(
        small_fleet(tmp_path), None, tmp_path / "out", Saboteur((is_online("desk-1"), steal))
    )
    events = events_of(outcome)
    assert has(events, "limits_lost", device="desk-1")
    devices = {one["id"]: one for one in outcome.summary["emulation"]["devices"]}
    assert devices["desk-1"]["limits_lost"] == 1
    assert len(outcome.summary["emulation"]["rounds"]) == 3


def start_in_its_midst(folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """The command, with the processes that it has started when devices train."""
    small_fleet(folder)
    run = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "emulate", "--fleet", "fleet.toml", "--output", "out"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: "task_sent" in read(folder / "out" / "events.jsonl"))
    return run, psutil.Process(run.pid).children(recursive=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_behind_but_what_happened_until_then(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run, children = start_in_its_midst(tmp_path)
    run.send_signal(number)
    _, said = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == code
    assert "what happened until then" in said
    psutil.wait_procs(children, timeout=PATIENCE_S)
    assert [one.pid for one in children if one.is_running()] == []
    assert left_over(run.pid) == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert not summary["emulation"]["finished"]
    assert "The run broke off" in (tmp_path / "out" / "timeline.html").read_text()


def test_a_command_that_is_killed_leaves_no_process_and_no_group(tmp_path: Path) -> None:
    run, children = start_in_its_midst(tmp_path)
    commands = [" ".join(one.cmdline()) for one in children]
    assert any("mosquitto" in one for one in commands)
    assert any("tools.cli aggregator" in one for one in commands)
    run.kill()
    run.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []
    assert left_over(run.pid) == []


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)  # between two looks
