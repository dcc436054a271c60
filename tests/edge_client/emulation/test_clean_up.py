"""Nothing is left behind, however a run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import BUSY, FOR_EVER, MIB, is_gone, python, start_for_ever, wait_until
from real_groups import require_groups

from edge_client.emulation.confine import confine
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.link import Link
from edge_client.emulation.names import is_left_over, new_name, start_time
from edge_client.emulation.namespace import NAMED
from edge_client.emulation.place import NOT_JOINED
from edge_client.emulation.report import Resource
from edge_client.emulation.watch import WATCH

ROOT = Path(__file__).parents[3]
# Opens a place with everything, starts a process, says what there is, and waits.
OWNER = f"""
import json, sys
sys.path[:0] = [{str(ROOT)!r}]
from edge_client.emulation.confine import confine
from edge_client.emulation.link import Link
from edge_client.emulation.watch import WATCH
with confine(memory=64 * 2**20, cpu=0.5, link=Link(up_bytes_per_s=1e6)) as place:
    process = place.start([sys.executable, "-c", {FOR_EVER!r}])
    groups = [str(group.folder) for group in place._groups]
    print(json.dumps([place.name, process.pid, groups, WATCH.warden_pid]), flush=True)
    sys.stdin.readline()
    raise SystemExit(sys.argv[1] == "fail")
"""


class Owner:
    """A process with a place open."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *arguments, ""],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.place, self.pid, groups, self.warden = json.loads(self.process.stdout.readline())
        self.groups = [Path(group) for group in groups]

    def is_clean(self) -> bool:
        groups = any(group.exists() for group in self.groups)
        return is_gone(self.pid) and not groups and not (NAMED / self.place).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_that_ends_the_owner_ends_and_removes_everything(number: signal.Signals) -> None:
    owner = Owner()
    with owner.process:
        owner.process.send_signal(number)
    wait_until(owner.is_clean, "the end of what the place had")


@pytest.mark.parametrize(
    "limits", [{}, {"memory": 64 * MIB}, {"cpu": 0.5}, {"memory": 64 * MIB, "cpu": 0.5}]
)
def test_no_control_group_of_any_hierarchy_stays(limits: dict[str, Any]) -> None:
    with confine(**limits) as place:
        name = place.name
    # `os.walk` does not mind the groups of other tests, which come and go.
    groups = {folder for _, folders, _ in os.walk("/sys/fs/cgroup") for folder in folders}
    assert name not in groups


@pytest.mark.parametrize("ending", ["", "fail"])
def test_leaving_the_context_ends_and_removes_everything_before_the_owner_ends(ending: str) -> None:
    owner = Owner(ending)
    owner.process.communicate("go\n")
    assert owner.is_clean()
    assert is_gone(owner.warden)


def test_what_owner_and_warden_left_is_removed_at_the_next_start() -> None:
    owner = Owner()
    with owner.process:
        os.kill(owner.warden, signal.SIGKILL)
        owner.process.kill()
    with confine(memory=64 * MIB, cpu=0.5, link=Link()):
        wait_until(owner.is_clean, "the end of what was left")  # if another test's start did it


def test_a_warden_that_was_killed_is_replaced_with_all_it_knew() -> None:
    with confine(memory=64 * MIB) as first:
        process = start_for_ever(first)
        killed = WATCH.warden_pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: is_gone(killed), "the end of the warden")
        with confine(memory=64 * MIB):
            assert WATCH.warden_pid != killed
        assert process.poll() is None


def test_the_owners_children_and_what_they_started_end_with_the_place() -> None:
    parent = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {BUSY!r}, "600"], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""
    with confine(memory=64 * MIB) as place:
        process = place.start(python(parent), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert {process.pid, child} <= place.members()
    assert process.returncode == -signal.SIGKILL
    assert is_gone(child)


def test_a_group_that_something_else_removed_is_told_and_nothing_starts_without_it() -> None:
    with confine(memory=64 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        (group,) = place._groups
        command = place.command(python("print('ran')"))
        group.folder.rmdir()
        with pytest.raises(EmulationError, match="has gone"):
            place.start(python("pass"))
        with pytest.raises(EmulationError, match="has gone"):
            place.change_memory(32 * MIB)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (NOT_JOINED, "")
        assert "has gone" in done.stderr
        place.usage()  # what is known of it stays known


def test_a_closed_place_keeps_its_figures_and_starts_nothing() -> None:
    with confine(memory=64 * MIB) as place:
        place.start(python("pass")).wait()
    place.close()
    assert place.report().of(Resource.MEMORY).parameters["bytes"] == 64 * MIB
    assert place.usage().cpu_s is not None
    with pytest.raises(EmulationError, match="closed"):
        place.start(python("pass"))


def test_a_program_that_is_not_there_is_an_error_here_and_not_in_the_shell() -> None:
    with confine() as place, pytest.raises(EmulationError, match="no program 'no-such-program'"):
        place.start(["no-such-program"])


def test_a_name_tells_whether_its_maker_lives() -> None:
    mine = new_name()
    assert new_name() != mine
    assert not is_left_over(mine)
    words = mine.split("-")
    assert is_left_over("-".join([*words[:3], "1", words[4]]))  # the same id, another process
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert is_left_over("-".join([*words[:2], str(dead.pid), *words[3:]]))
    elsewhere = "-".join([words[0], "1", str(dead.pid), *words[3:]])
    assert not is_left_over(elsewhere)  # another namespace of process ids: nobody knows here
    assert not is_left_over("fedsparse-something-else")
    assert start_time(os.getpid()) is not None
