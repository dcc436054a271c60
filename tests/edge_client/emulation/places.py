"""What the tests of emulation share: processes to confine, and what a test requires."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_client.emulation.host_speed import given_speed
from edge_client.emulation.place import Place

HOST: Final = given_speed(1e10)
PATIENCE_S: Final = 30.0
TRIES: Final = 5
MIB: Final = 2**20
# Takes as many bytes as it is told, and writes to each page.
TAKE: Final = """
import sys
block = bytearray(int(sys.argv[1]))
block[::4096] = b"x" * len(block[::4096])
print("took it")
"""
# Computes for so many seconds, then tells its share of a processor.
BUSY: Final = """
import sys, time
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < float(sys.argv[1]):
    pass
print((time.process_time() - used) / (time.monotonic() - began))
"""
# Says that it runs, then does so until it is ended.
FOR_EVER: Final = """
import time
print("running", flush=True)
while True:
    time.sleep(0.01)
"""


def python(code: str, *arguments: object) -> list[str]:
    """The command that runs a text."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


def soon_takes(measure: Callable[[], float], seconds: float, rel: float) -> None:
    """Hold a time against what it should be: never shorter, and not always longer.

    Other work on a loaded machine makes things late; nothing may make them early.
    """
    for _ in range(TRIES):
        taken_s = measure()
        assert taken_s > seconds * (1 - rel)
        if taken_s < seconds * (1 + rel):
            return
    raise AssertionError(f"{taken_s} s instead of {seconds} s, {TRIES} times")


def start_for_ever(place: Place) -> subprocess.Popen[str]:
    """A process that has begun to run, and does so until it is ended."""
    process = place.start(python(FOR_EVER), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def state_of(pid: int) -> str:
    """One letter, as `ps` shows it; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return state_of(pid) in ("", "Z", "X")
