"""What every emulated run stands on: a broker, the run's files, its diary, its processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tools.demo.processes import Children
from tools.demo.views import View
from tools.emulate.boards import Boards
from tools.emulate.journal import Journal
from tools.emulate.kept_broker import KeptBroker
from tools.emulate.layout import Layout, lay_out
from tools.emulate.setup import Setup
from tools.emulate.warded import warded


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The parts of a run that last from its first process to its last."""

    boards: Boards
    children: Children
    broker: KeptBroker
    journal: Journal
    layout: Layout


@contextmanager
def open_stage(setup: Setup, view: View) -> Iterator[Stage]:
    """In the empty output folder; no board is opened yet. Nothing of it is left afterwards.

    Raises:
        FedSparseError: there is no broker, or the fleet's data cannot be had.
    """
    output = setup.output
    with ExitStack() as stack:  # what is entered last is ended first
        stack.enter_context(warded())
        broker = stack.enter_context(KeptBroker(output / "broker"))
        host, port = broker.address
        view.say(f"broker: {broker.name} on {host}:{port}")
        layout = lay_out(
            setup.fleet,
            output,
            setup.pace.scale,
            broker.config,
            late=len(setup.late),
            say=view.say,
        )
        journal = stack.enter_context(Journal(layout.events))
        children = stack.enter_context(Children(output, layout.logs))
        boards = stack.enter_context(
            Boards(
                setup,
                layout=layout,
                children=children,
                journal=journal,
                broker=broker.address,
                say=view.say,
            )
        )
        yield Stage(boards=boards, children=children, broker=broker, journal=journal, layout=layout)
