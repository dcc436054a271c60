"""A duty cycle never leaves a process stopped, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from places import BUSY, is_gone, python, state_of, wait_until
from real_groups import GROUPS

from edge_client.emulation import pacer as pacer_module
from edge_client.emulation.confine import confine
from edge_client.emulation.members import MARK, cpu_s, marked
from edge_client.emulation.pacer import SLICE_S, Account

ROOT = Path(__file__).parents[3]
OWNER = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from edge_client.emulation.confine import confine
from edge_client.emulation.report import Mechanism
avoid = (Mechanism.CGROUP_1, Mechanism.CGROUP_2)
place = confine(cpu=0.02, avoid=avoid)
process = place.start([sys.executable, "-c", {BUSY!r}, "600"])
print(place.name, process.pid, flush=True)
sys.stdin.read()
"""


def pacer_of(place: str) -> int:
    """The process that stops and continues: its command line has the place's name."""
    return process_like(f"edge_client.emulation.pacer\0{place}\0")


def child_of(parent: int, module: str) -> int:
    """The process of a module that another started."""
    return process_like(f"{module}\0", parent)


def process_like(text: str, parent: int | None = None) -> int:
    found = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and text.encode() in read(folder / "cmdline")
        and (parent is None or f"\nPPid:\t{parent}\n".encode() in read(folder / "status"))
    ]
    assert len(found) == 1
    return found[0]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_account_pays_out_its_share_and_saves_no_more_than_a_slice() -> None:
    account = Account(0.25)
    for _ in range(100):
        account.book(0.1, 0.025)
    assert abs(account.credit_s) <= SLICE_S
    account.book(0.1, 0.2)  # far too much: it is paid back
    assert account.must_stop
    account.book(0.5, 0.0)
    assert not account.may_start
    account.book(0.5, 0.0)
    assert account.may_start


def test_a_process_that_ends_while_it_is_looked_at_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(pacer_module, "with_children", lambda _: {ended.pid})
    pacer = pacer_module.Pacer("fedsparse-none", 0.5)
    assert pacer.turn() > 0


def test_when_the_pacer_is_killed_the_process_runs_on_and_another_takes_over() -> None:
    with confine(cpu=0.02, avoid=GROUPS) as place:
        process = place.start(python(BUSY, 600))
        wait_until(lambda: state_of(process.pid) == "T", "a stop")
        first = pacer_of(place.name)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: state_of(process.pid) in ("R", "S"), "going on")
        wait_until(lambda: state_of(process.pid) == "T", "a stop by the next pacer")
        assert pacer_of(place.name) != first
        used_s = place.usage().cpu_s
        assert used_s is not None


def test_when_the_place_closes_nothing_is_left_and_nothing_is_stopped() -> None:
    with confine(cpu=0.02, avoid=GROUPS) as place:
        process = place.start(python(BUSY, 600))
        wait_until(lambda: state_of(process.pid) == "T", "a stop")
        pacer = pacer_of(place.name)
    assert is_gone(process.pid)
    assert is_gone(pacer)


@contextmanager
def owner_of_a_stopped_process() -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another process with a place, the place's name, and what is stopped in it."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        name, pid = owner.stdout.readline().split()
        wait_until(lambda: state_of(int(pid)) == "T", "a stop")
        yield owner, name, int(pid)


def test_when_the_owner_is_killed_the_process_is_ended_and_not_left_stopped() -> None:
    with owner_of_a_stopped_process() as (owner, name, pid):
        owner.kill()
    wait_until(lambda: is_gone(pid), "the end of the process")
    assert marked(name) == set()


def test_when_owner_and_pacer_are_killed_at_once_the_process_is_ended() -> None:
    with owner_of_a_stopped_process() as (owner, name, pid):
        os.kill(pacer_of(name), signal.SIGKILL)
        owner.kill()
    wait_until(lambda: is_gone(pid), "the end of the process")


def test_when_all_that_could_clear_up_is_killed_the_next_start_does() -> None:
    with owner_of_a_stopped_process() as (owner, name, pid):
        os.kill(child_of(owner.pid, "edge_client.emulation.warden"), signal.SIGKILL)
        os.kill(pacer_of(name), signal.SIGKILL)
        owner.kill()
    confine().close()  # or that of another test's, side by side with this one
    assert is_gone(pid)


def test_a_pacer_that_takes_over_does_not_collect_what_was_used_before_it() -> None:
    place = "fedsparse-test-of-taking-over"
    running = subprocess.Popen(python(BUSY, 600), env={**os.environ, MARK: place})
    with running:
        wait_until(lambda: (cpu_s(running.pid) or 0.0) > 0.2, "some processor time")
        pacer = pacer_module.Pacer(place, 0.5)
        pacer.turn()
        assert pacer.used_s < 0.1
        pacer.go_on()
        running.kill()


def test_a_child_that_has_lost_its_parent_is_paced_too() -> None:
    daemon = f"""
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {BUSY!r}, "600"], start_new_session=True, stdout=subprocess.DEVNULL
)
print(child.pid, flush=True)
"""
    with confine(cpu=0.05, avoid=GROUPS) as place:
        process = place.start(python(daemon), stdout=subprocess.PIPE, text=True)
        orphan = int(process.communicate()[0])
        wait_until(lambda: state_of(orphan) == "T", "a stop of the orphan")
    assert is_gone(orphan)
