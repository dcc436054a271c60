"""One run from its files to its results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from edge_client.emulation.host_speed import host_speed
from tools.demo.processes import ended_by_signals
from tools.demo.state import RunState
from tools.demo.views import View
from tools.emulate.director import Director
from tools.emulate.fleet_file import Fleet
from tools.emulate.outcome import Ending, Outcome, Record, write_outcome
from tools.emulate.pace import this_machine
from tools.emulate.scenario_file import Scenario
from tools.emulate.script import Script
from tools.emulate.setup import Setup, set_up
from tools.emulate.small_disk import unmount_below
from tools.emulate.stage import open_stage
from tools.run_folder import clear_folder

COMMAND: Final = "emulate"


def run_fleet(fleet: Fleet, scenario: Scenario | None, output: Path, view: View) -> Outcome:
    """Run a fleet through a scenario, and write what came of it, also where it broke off.

    Raises:
        RunFailedError: the job did not come to its end.
        FedSparseError: the files are at fault, or this host cannot be this fleet.
    """
    with ended_by_signals(), view:
        view.say("the speed of this host: measured once, then kept")
        setup = set_up(fleet, scenario, this_machine(host_speed()), output)
        view.say(f"time scale {setup.pace.why}")
        unmount_below(setup.output)  # what a run left that was killed
        clear_folder(setup.output, COMMAND)
        record = Record(setup=setup, state=RunState(), script=Script(scenario, fleet))
        began_s = time.monotonic()
        try:
            _play(setup, record, view)
        except BaseException as error:
            record.ending = Ending(finished=False, reason=_reason(error))
            raise
        finally:
            record.wall_s = time.monotonic() - began_s
            outcome = write_outcome(record)
            if not record.ending.finished:
                view.say(f"what happened until then: {outcome.timeline_file}")
    return outcome


def _play(setup: Setup, record: Record, view: View) -> None:
    """From the first process to the last; nothing of it is left afterwards."""
    with open_stage(setup, view) as stage:
        record.broker, record.actors = stage.broker, stage.boards.actors
        stage.boards.open()
        director = record.director = Director(setup, record.script, record.state, stage)
        director.start()
        count = len(setup.devices) - len(setup.late)
        view.say(f"started {count} clients and the aggregator; logs: {stage.layout.logs}")
        director.follow(view)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted with Ctrl-C"
    if isinstance(error, SystemExit):
        return f"ended by a signal (exit code {error.code})"
    return str(error) or type(error).__name__
