"""Processes that measure, and the process that listens to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_client.probe import speaking
from edge_client.probe.bandwidth import LARGEST_BYTES, SMALLEST_BYTES, measure_bandwidth
from edge_client.probe.speaking import listen
from fedsparse.errors import DataError

Listening = Callable[..., tuple[str, list[dict[str, Any]]]]
HEAD = "import os, sys, time, signal\nfrom edge_client.probe.speaking import say, speak\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listening:
    """Writes a module that measures; gives what listening to it gives."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(body: str, limit_s: float = 30.0) -> tuple[str, list[dict[str, Any]]]:
        text = f"{HEAD}def measure(seconds):\n    {body}\nspeak(measure, sys.argv[1:])\n"
        (tmp_path / "measuring_here.py").write_text(text)
        heard: list[dict[str, Any]] = []
        return listen("measuring_here", limit_s, heard.append), heard

    return run


def test_every_line_is_heard(module: Listening) -> None:
    reason, heard = module("say(a=1); say(b=[2]); say(left=seconds)")
    assert (reason, heard[:2]) == ("", [{"a": 1}, {"b": [2]}])
    assert 0 < heard[2]["left"] < 30  # starting took some of them


def test_what_was_said_before_the_time_ran_out_counts(module: Listening) -> None:
    start = time.monotonic()
    reason, heard = module("say(a=1); signal.pause()", limit_s=3.0)
    assert (reason, heard) == ("ran out of time", [{"a": 1}])
    assert time.monotonic() - start < 20.0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise OSError('the kernels are missing')", "the kernels are missing"),
        ("raise MemoryError", "out of memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, probably for want of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("os._exit(7)", "ended with code 7"),
        ("raise TypeError('a bug')", "TypeError: a bug"),
    ],
)
def test_how_it_ended_is_said_beside_what_was_heard(
    module: Listening, body: str, reason: str
) -> None:
    assert module(f"say(a=1); {body}") == (reason, [{"a": 1}])


def test_a_module_that_does_not_exist_is_a_reason() -> None:
    assert "No module named" in listen("edge_client.no_such_module", 30.0, lambda _: None)


def test_the_process_is_ended_when_who_listens_fails(module: Listening, tmp_path: Path) -> None:
    def broken(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    module("say(pid=os.getpid())")
    path = tmp_path / "measuring_here.py"
    path.write_text(path.read_text().replace("say(pid=os.getpid())", "say(a=1); signal.pause()"))
    with pytest.raises(KeyboardInterrupt):
        listen("measuring_here", 60.0, broken)  # returns at all: it waits for the process


def test_a_process_that_measures_is_to_go_first_where_memory_is_short(module: Listening) -> None:
    _, heard = module("say(score=int(open('/proc/self/oom_score_adj').read()))")
    assert heard == [{"score": int(speaking.OOM_SCORE)}]


def test_the_packages_are_those_of_who_asks(module: Listening) -> None:
    _, heard = module("import edge_client; say(path=edge_client.__file__)")
    assert Path(heard[0]["path"]).parent == Path(speaking.__file__).parents[1]


def test_memory_is_copied_and_set() -> None:
    found = measure_bandwidth(10**9, window_s=0.02)
    assert found.copy_bytes_per_s > 0
    assert found.set_bytes_per_s > 0
    assert found.block_bytes == LARGEST_BYTES


def test_blocks_take_a_share_of_the_memory_that_is_available() -> None:
    found = measure_bandwidth(100 * 2**20, window_s=0.01)
    assert found.block_bytes == 10 * 2**20


def test_bandwidth_is_bytes_copied_over_time() -> None:
    ticks = iter([0.0, 0.1, 0.2, 0.5, 1.0, 1.1, 1.2, 1.3, 1.5])
    found = measure_bandwidth(40 * 2**20, window_s=0.5, clock=lambda: next(ticks))
    assert found.block_bytes == SMALLEST_BYTES
    assert found.copy_bytes_per_s == pytest.approx(2 * SMALLEST_BYTES / 0.5)
    assert found.set_bytes_per_s == pytest.approx(3 * SMALLEST_BYTES / 0.5)


def test_with_too_little_memory_caches_would_be_measured() -> None:
    with pytest.raises(DataError, match="30 MB are too little"):
        measure_bandwidth(30_000_000)


def test_bandwidth_is_measured_in_a_process_of_its_own() -> None:
    heard: list[dict[str, Any]] = []
    assert listen("edge_client.probe.bandwidth", 20.0, heard.append) == ""
    assert heard[0].keys() == {"copy_bytes_per_s", "set_bytes_per_s", "block_bytes"}
