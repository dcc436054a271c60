"""No process outlives the demo, and one that dies is reported with its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from demo_recording import recorded_events, write_events

from tools.demo.processes import Child, Children, RunFailedError, environment, python_module
from tools.demo.run import AGGREGATOR, Follower
from tools.demo.scenario import Kill, Layout
from tools.demo.views import QuietView

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""
FOLLOW_S = 0.01


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(code))


def wait_for_log(child: Child, text: str) -> None:
    """Until the process wrote `text`; the suite's time limit ends a wait in vain."""
    while text not in child.log.read_text():
        assert child.process.poll() is None, child.log.read_text()
        os.sched_yield()


def is_gone(process: psutil.Process) -> bool:
    """Whether a process that was killed ends; its new parent may be slow to reap it."""
    try:
        while process.status() != psutil.STATUS_ZOMBIE:
            os.sched_yield()
    except psutil.NoSuchProcess:
        pass
    return True


def layout(tmp_path: Path, *devices: str) -> Layout:
    return Layout(
        output=tmp_path,
        job_file=tmp_path / "job.toml",
        client_files={device: tmp_path / device for device in devices},
        events_file=tmp_path / "events.jsonl",
        logs=tmp_path / "logs",
        members=(),
    )


@pytest.fixture
def children(tmp_path: Path) -> Callable[[], Children]:
    return lambda: Children(tmp_path, tmp_path / "logs")


def test_leaving_the_block_ends_every_process(children: Callable[[], Children]) -> None:
    with children() as group:
        pids = [group.start(name, python(SLEEP)).pid for name in ("a", "b", "c")]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_ends_every_process(
    children: Callable[[], Children], error: type[BaseException]
) -> None:
    with pytest.raises(error), children() as group:  # noqa: PT012
        pid = group.start("a", python(SLEEP)).pid
        raise error
    assert not psutil.pid_exists(pid)


def test_a_stubborn_process_and_its_children_are_killed(children: Callable[[], Children]) -> None:
    with children() as group:
        child = group.start("stubborn", python(STUBBORN))
        wait_for_log(child, "ready")
        (grandchild,) = psutil.Process(child.pid).children()
        group.stop_all(grace_s=0.05)
    assert child.process.returncode == -signal.SIGKILL
    assert is_gone(grandchild)


def test_the_demo_ended_by_sigterm_takes_its_processes_along(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from tools.demo.processes import Children, ended_by_signals
        folder = Path({str(tmp_path)!r})
        with ended_by_signals(), Children(folder, folder) as group:
            child = group.start("a", (sys.executable, "-c", {SLEEP!r}))
            print(child.pid, flush=True)
            time.sleep(600)
        """
    with subprocess.Popen(
        python(code), stdout=subprocess.PIPE, env=environment(os.environ), text=True
    ) as demo:
        assert demo.stdout
        pid = int(demo.stdout.readline())
        demo.send_signal(signal.SIGTERM)
        assert demo.wait() == 128 + signal.SIGTERM
    assert not psutil.pid_exists(pid)


def test_children_find_our_packages_wherever_they_run(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("raise SystemExit('shadowed')")
    with Children(tmp_path / "logs", tmp_path / "logs") as group:
        child = group.start("a", python("import tools.demo.processes, os; print(os.getcwd())"))
        assert child.process.wait() == 0
        assert child.log.read_text().strip() == str(tmp_path / "logs")


def test_children_use_one_thread_a_library() -> None:
    assert environment({})["OPENBLAS_NUM_THREADS"] == "1"
    assert environment({"PYTHONPATH": "/x"})["PYTHONPATH"].endswith(f"{os.pathsep}/x")


def test_a_restart_runs_the_same_command_and_keeps_the_log(
    children: Callable[[], Children],
) -> None:
    with children() as group:
        first = group.start("a", python("print('hello')"))
        first.process.wait()
        second = group.restart("a")
        second.process.wait()
        assert second.command == first.command
        assert second.log.read_text() == "hello\nhello\n"


def test_a_module_runs_under_this_interpreter() -> None:
    assert python_module("edge_client.cli", "run")[:3] == (sys.executable, "-m", "edge_client.cli")


def test_a_device_that_dies_is_reported_with_the_end_of_its_log(
    tmp_path: Path, children: Callable[[], Children]
) -> None:
    with children() as group:
        group.start(AGGREGATOR, python(SLEEP))
        group.start("pi5", python("import sys; print('no such plan'); sys.exit(3)"))
        with pytest.raises(RunFailedError, match=r"(?s)pi5 exited with 3.*no such plan"):
            Follower(group, layout(tmp_path, "pi5"), QuietView()).follow(FOLLOW_S)


def test_an_aggregator_killed_for_memory_is_explained(
    tmp_path: Path, children: Callable[[], Children]
) -> None:
    with children() as group:
        group.start(AGGREGATOR, python(SLEEP))
        group.kill(AGGREGATOR)
        with pytest.raises(RunFailedError, match=r"(?s)ended by SIGKILL.*--devices"):
            Follower(group, layout(tmp_path), QuietView()).follow(FOLLOW_S)


def test_a_stall_is_reported_with_the_devices_that_declined(
    tmp_path: Path, children: Callable[[], Children]
) -> None:
    ready = next(event for event in recorded_events() if event["event"] == "device_ready")
    write_events(tmp_path, [{**ready, "level": None, "reason": "declined: needs 80 MiB"}])
    with children() as group:
        group.start(AGGREGATOR, python("print('waiting for 8 devices')\n" + SLEEP))
        wait_for_log(group[AGGREGATOR], "waiting")
        follower = Follower(group, layout(tmp_path, "big"), QuietView(), patience_s=0.05)
        with pytest.raises(RunFailedError, match=r"(?s)no progress.*waiting.*big: .*80 MiB"):
            follower.follow(FOLLOW_S)


def test_a_finished_job_ends_the_watch(tmp_path: Path, children: Callable[[], Children]) -> None:
    write_events(tmp_path, recorded_events())
    with children() as group:
        group.start(AGGREGATOR, python("pass"))
        group.start("small", python(SLEEP))
        follower = Follower(group, layout(tmp_path, "small"), QuietView())
        follower.follow(FOLLOW_S)
    assert follower.state.done
    assert follower.idle_rss_mb["small"] > 1.0


def test_an_aggregator_that_fails_after_the_job_is_reported(
    tmp_path: Path, children: Callable[[], Children]
) -> None:
    write_events(tmp_path, recorded_events())
    with children() as group:
        group.start(AGGREGATOR, python("raise SystemExit('no space left')"))
        with pytest.raises(RunFailedError, match="no space left"):
            Follower(group, layout(tmp_path), QuietView()).follow(FOLLOW_S)


def test_a_device_is_killed_in_its_round_and_comes_back(
    tmp_path: Path, children: Callable[[], Children], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.demo.run.RESTART_S", 0.0)
    events = recorded_events()
    sent = next(
        index
        for index, event in enumerate(events)
        if event["event"] == "task_sent" and event["round"] == 2 and event["device"] == "small"
    )
    path = write_events(tmp_path, events[: sent + 1])
    rest = "".join(line + "\n" for line in map(json.dumps, events[sent + 1 :]))
    finish = (
        "import os, time\n"
        f"while os.path.getsize({str(tmp_path / 'logs' / 'small.log')!r}) < 12: time.sleep(0.01)\n"
        f"open({str(path)!r}, 'a').write({rest!r})"
    )
    with children() as group:
        first = group.start("small", python("print('start', flush=True)\n" + SLEEP))
        wait_for_log(first, "start")
        group.start(AGGREGATOR, python(finish))
        follower = Follower(
            group, layout(tmp_path, "small"), QuietView(), kill=Kill(device="small", round_id=2)
        )
        follower.follow(FOLLOW_S)
        assert group["small"].pid != first.pid
    assert first.process.returncode == -signal.SIGKILL
