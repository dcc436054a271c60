"""One run of the demo: broker, aggregator and devices as real processes, followed to the end."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from fedsparse.transport.config import BrokerConfig
from tools.broker import start_broker
from tools.demo.events import EventTail
from tools.demo.processes import (
    Children,
    RunFailedError,
    describe_exit,
    ended_by_signals,
    last_lines,
    python_module,
)
from tools.demo.report import write_report
from tools.demo.scenario import DemoOptions, Kill, Layout, lay_out
from tools.demo.state import Activity, RunState
from tools.demo.summary import RunFacts, summarise
from tools.demo.views import View
from tools.run_folder import clear_folder

POLL_S: Final = 0.2
PATIENCE_S: Final = 60.0
EXIT_S: Final = 30.0
RESTART_S: Final = 1.0
AGGREGATOR: Final = "aggregator"
UNABLE: Final = (Activity.DECLINED, Activity.FAILED, Activity.OFFLINE)
PROGRESS: Final = frozenset({"job_started", "update", "round_closed", "job_done"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a finished run left behind."""

    summary: dict[str, Any]
    summary_file: Path
    report_file: Path


def run_demo(options: DemoOptions, view: View) -> Outcome:
    """Run the demo and write its summary and report.

    Raises:
        RunFailedError: a process ended early, or there was no progress for long.
        FedSparseError: the options, the data or the broker are at fault.
    """
    began = time.monotonic()
    clear_folder(options.output, "demo")
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        stack.enter_context(view)
        broker = start_broker(options.output.resolve() / "broker")
        stack.callback(broker.stop)
        view.say(f"broker: {broker.name} on {broker.host}:{broker.port}")
        address = BrokerConfig(host=broker.host, port=broker.port)
        layout = lay_out(options, address, view.say)
        children = stack.enter_context(Children(layout.output, layout.logs))
        launch(children, layout)
        view.say(f"started the aggregator and {len(layout.members)} devices; logs: {layout.logs}")
        patience_s = PATIENCE_S + min(options.round_deadline_s, 600.0)
        follower = Follower(children, layout, view, kill=options.kill, patience_s=patience_s)
        follower.follow()
    facts = RunFacts(
        dataset=options.dataset,
        broker=broker.name,
        deadline_s=options.round_deadline_s,
        wall_s=time.monotonic() - began,
        idle_rss_mb=follower.idle_rss_mb,
        profiles={member.device: member.profile for member in layout.members},
        notes={member.device: member.note for member in layout.members},
    )
    return _write(layout.output, summarise(follower.state, facts))


def launch(children: Children, layout: Layout) -> None:
    """Start the devices, then the aggregator: it finds who is there by their retained status."""
    for device, path in layout.client_files.items():
        children.start(device, python_module("edge_client.cli", "run", str(path)))
    children.start(AGGREGATOR, python_module("tools.cli", "aggregator", str(layout.job_file)))


class Follower:
    """Folds events into a state and watches the processes until the job is done.

    Attributes:
        state: of the run.
        idle_rss_mb: the largest memory of each agent while it waited, before and after its tasks.
    """

    def __init__(
        self,
        children: Children,
        layout: Layout,
        view: View,
        *,
        kill: Kill | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.state = RunState()
        self.idle_rss_mb: dict[str, float] = {}
        self._children = children
        self._layout = layout
        self._view = view
        self._tail = EventTail(layout.events_file)
        self._patience_s = patience_s
        self._kill = kill
        self._restart_at: float | None = None

    def follow(self, poll_s: float = POLL_S) -> None:
        """Return when the aggregator has finished the job.

        Raises:
            RunFailedError: a process ended early, or there was no progress for `patience_s`.
        """
        last_progress = time.monotonic()
        while True:
            ended = {child.name for child in self._children.ended()}
            if self._read():
                last_progress = time.monotonic()
            self._measure_idle()
            self._view.update(self.state)
            if self.state.done and AGGREGATOR in ended:
                self._check_exit()
                return
            self._check_alive(ended)
            silent_s = time.monotonic() - last_progress
            if silent_s > self._limit_s():
                raise RunFailedError(self._stalled(silent_s))
            self._carry_out_kill()
            time.sleep(poll_s)

    def _limit_s(self) -> float:
        """How long there may be no progress: short when all is done, or nobody takes part."""
        if self.state.done:
            return EXIT_S
        devices = self.state.devices
        everyone = len(devices) == len(self._layout.client_files)
        if everyone and all(device.activity in UNABLE for device in devices.values()):
            return min(EXIT_S, self._patience_s)
        return self._patience_s

    def _read(self) -> bool:
        """Whether the job went on; rounds that are offered again and again are no progress."""
        progress = False
        for event in self._tail.read():
            self.state.apply(event)
            progress |= event["event"] in PROGRESS
        return progress

    def _measure_idle(self) -> None:
        for name in self._layout.client_files:
            device = self.state.devices.get(name)
            if device is None or device.activity is not Activity.IDLE:
                continue
            if device.has_worked and not self.state.done:
                continue
            try:
                rss = psutil.Process(self._children[name].pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.idle_rss_mb[name] = max(self.idle_rss_mb.get(name, 0.0), rss / 1e6)

    def _check_exit(self) -> None:
        child = self._children[AGGREGATOR]
        if child.process.returncode != 0:
            raise RunFailedError(describe_exit(child))

    def _check_alive(self, ended: set[str]) -> None:
        """`ended` was looked up before the events were read, so no last event is missed."""
        if self.state.done:
            return
        for name in sorted(ended):
            if self._restart_at is not None and self._kill and name == self._kill.device:
                continue
            raise RunFailedError(describe_exit(self._children[name]))

    def _carry_out_kill(self) -> None:
        if self._kill is None:
            return
        name = self._kill.device
        device = self.state.devices.get(name)
        if self._restart_at is None:
            training = device is not None and device.activity is Activity.TRAINING
            if training and self.state.round_id == self._kill.round_id:
                self._children.kill(name)
                self._restart_at = time.monotonic() + RESTART_S
                self._view.say(f"killed {name} in round {self._kill.round_id}")
        elif time.monotonic() >= self._restart_at:
            self._children.restart(name)
            self._kill = self._restart_at = None
            self._view.say(f"started {name} again")

    def _stalled(self, silent_s: float) -> str:
        declined = [
            f"    {device.device}: {device.reason}"
            for device in self.state.devices.values()
            if device.activity in UNABLE
        ]
        why = "\nDevices that do not take part:\n" + "\n".join(declined) if declined else ""
        log = self._children[AGGREGATOR].log
        return (
            f"no progress for {silent_s:.0f} s. The end of {log}:\n{last_lines(log)}{why}\n"
            f"Every process has its log in {self._layout.logs}; a longer --deadline lets slow "
            "devices take part."
        )


def _write(output: Path, summary: dict[str, Any]) -> Outcome:
    summary_file = output / "summary.json"
    summary_file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    report_file = write_report(output)
    return Outcome(summary=summary, summary_file=summary_file, report_file=report_file)
