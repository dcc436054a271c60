"""Follows a run: the aggregator's diary, the scenario, and everything that may die."""

from __future__ import annotations

import time
from typing import Final

from tools.demo.events import EventTail
from tools.demo.processes import (
    RunFailedError,
    describe_exit,
    last_lines,
    python_module,
)
from tools.demo.state import Activity, RunState
from tools.demo.views import View
from tools.emulate.script import Script
from tools.emulate.setup import Setup
from tools.emulate.stage import Stage

AGGREGATOR: Final = "aggregator"
POLL_S: Final = 0.1
LOOK_EVERY_S: Final = 1.0
EXIT_S: Final = 30.0
MOST_RESTARTS: Final = 3
UNABLE: Final = (Activity.DECLINED, Activity.FAILED, Activity.OFFLINE)
PROGRESS: Final = frozenset(
    {"job_started", "device_online", "device_ready", "update", "round_closed", "job_done"}
)


class Director:
    """Lets a run go its way, and the scenario happen in it.

    Attributes:
        state: of the job, as the aggregator tells.
        restarts: of the aggregator.
    """

    def __init__(self, setup: Setup, script: Script, state: RunState, stage: Stage) -> None:
        self.state = state
        self.restarts = 0
        self._setup = setup
        self._script = script
        self._stage = stage
        self._tail = EventTail(stage.layout.job_events)
        self._job_began_s: float | None = None
        self._last_progress_s = 0.0
        self._next_look_s = 0.0

    def start(self) -> None:
        """Start the clients that are there from the start, then the aggregator."""
        for device in self._setup.devices:
            if device.name not in self._setup.late:
                self._stage.boards.start(device.name)
        self._start_aggregator()

    def follow(self, view: View) -> None:
        """Return when the aggregator has finished the job.

        Raises:
            RunFailedError: the job cannot come to its end.
        """
        self._last_progress_s = self._stage.journal.now_s
        while not self._step(view):
            view.update(self.state)
            time.sleep(POLL_S)
        self._stage.boards.end()
        view.update(self.state)

    def _step(self, view: View) -> bool:
        """One look at everything; True when the job is done."""
        aggregator = self._stage.children[AGGREGATOR]
        code = aggregator.process.poll()  # before the last events are read, so none is missed
        self._read()
        if self.state.done and code is not None:
            return True
        if code is not None:
            self._revive_aggregator(view, code)
        self._stage.broker.look(lambda event, ended: self._tell(view, event, ended))
        for act in self._script.due(self._board_s()):
            reason = self._stage.boards.perform(act)
            if reason is not None:
                self._script.give_up(act, reason)
        now_s = self._stage.journal.now_s
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            self._stage.boards.look()
            self._stage.boards.look_at_groups()
        self._check_patience(now_s)
        return False

    def _read(self) -> None:
        for event in self._tail.read():
            entry = self._stage.journal.copy(event)
            if event["event"] == "job_started" and self._job_began_s is None:
                self._job_began_s = entry["time_s"]
            self.state.apply(entry)
            self._script.observe(event, self._board_s())
            if event["event"] in PROGRESS:
                self._last_progress_s = self._stage.journal.now_s

    def _board_s(self) -> float:
        """Board seconds since the start of the job; before it, none."""
        if self._job_began_s is None:
            return 0.0
        return self._setup.pace.scale.board_s(self._stage.journal.now_s - self._job_began_s)

    def _start_aggregator(self) -> None:
        command = python_module("tools.cli", "aggregator", str(self._stage.layout.job_file))
        self._stage.children.start(AGGREGATOR, command)

    def _revive_aggregator(self, view: View, code: int) -> None:
        """One that was killed goes on where it was; one that failed would fail again."""
        child = self._stage.children[AGGREGATOR]
        if code >= 0 or self.restarts >= MOST_RESTARTS:
            raise RunFailedError(describe_exit(child))
        self.restarts += 1
        self._tell(view, "aggregator_ended", code)
        self._start_aggregator()

    def _tell(self, view: View, event: str, code: int) -> None:
        self._stage.journal.note(event, exit_code=code)
        who, what = event.split("_")
        view.say(f"the {who} {'has ended' if what == 'ended' else 'was started again'} ({code})")

    def _check_patience(self, now_s: float) -> None:
        if self._script.is_busy:
            self._last_progress_s = max(self._last_progress_s, now_s - EXIT_S)
        silent_s = now_s - self._last_progress_s
        if silent_s > (EXIT_S if self.state.done else self._setup.patience_s):
            raise RunFailedError(self._stalled(silent_s))

    def _stalled(self, silent_s: float) -> str:
        unable = [
            f"    {device.device}: {device.activity.value} {device.reason}"
            for device in self.state.devices.values()
            if device.activity in UNABLE
        ]
        why = "\nDevices that do not take part:\n" + "\n".join(unable) if unable else ""
        log = self._stage.children[AGGREGATOR].log
        return (
            f"no progress for {silent_s:.0f} s. {self.state.waiting or 'It waits for devices'}. "
            f"The end of {log}:\n{last_lines(log)}{why}\n"
            f"Every process has its log in {self._stage.layout.logs}; a longer deadline_s or a "
            "smaller min_devices in the fleet file lets a round begin with fewer devices."
        )
