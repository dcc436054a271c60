"""One run from its files to its results."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from edge_client.emulation.host_speed import host_speed
from tools.demo.processes import Children, ended_by_signals
from tools.demo.state import RunState
from tools.demo.views import View
from tools.emulate.boards import Boards
from tools.emulate.director import Cast, Director
from tools.emulate.fleet_file import Fleet
from tools.emulate.journal import Journal
from tools.emulate.kept_broker import KeptBroker
from tools.emulate.layout import lay_out
from tools.emulate.outcome import Ending, Outcome, Record, write_outcome
from tools.emulate.pace import this_machine
from tools.emulate.scenario_file import Scenario
from tools.emulate.script import Script
from tools.emulate.setup import Setup, set_up
from tools.emulate.small_disk import unmount_below
from tools.emulate.warded import warded
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
    output, scale = setup.output, setup.pace.scale
    with ExitStack() as stack:  # what is entered last is ended first
        stack.enter_context(warded())
        broker = stack.enter_context(KeptBroker(output / "broker"))
        record.broker = broker
        host, port = broker.address
        view.say(f"broker: {broker.name} on {host}:{port}")
        layout = lay_out(
            setup.fleet, output, scale, broker.config, late=len(setup.late), say=view.say
        )
        journal = stack.enter_context(Journal(layout.events))
        children = stack.enter_context(Children(output, layout.logs))
        boards = stack.enter_context(
            Boards(
                setup, layout=layout, children=children, journal=journal,
                broker=broker.address, say=view.say,
            )
        )  # fmt: skip
        record.actors = boards.actors
        boards.open()
        cast = Cast(boards=boards, children=children, broker=broker, journal=journal, layout=layout)
        director = record.director = Director(setup, record.script, record.state, cast)
        director.start()
        count = len(setup.devices) - len(setup.late)
        view.say(f"started {count} clients and the aggregator; logs: {layout.logs}")
        director.follow(view)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted with Ctrl-C"
    if isinstance(error, SystemExit):
        return f"ended by a signal (exit code {error.code})"
    return str(error) or type(error).__name__
