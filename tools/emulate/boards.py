"""The boards of a run: a place and a client for each, what happens to them, and what they used."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final

from edge_client.emulation.confine import confine
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.limits import FROM_BOARD
from edge_client.emulation.members import end_all
from edge_client.emulation.report import Mechanism
from fedsparse.transport.config import BrokerConfig
from tools.demo.processes import Children, last_lines, python_module
from tools.emulate.actor import Actor
from tools.emulate.held import is_limited
from tools.emulate.journal import Journal
from tools.emulate.layout import Layout, keepalive_s, write_client
from tools.emulate.scenario_file import Kind
from tools.emulate.script import Act
from tools.emulate.setup import Setup
from tools.emulate.small_disk import mount_small_disk

GROUPS: Final = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
DEFAULT_STORE_MIB: Final = 16.0  # of a device that is to run out of disk
AGAIN_S: Final = 5.0  # of the board, as a service manager waits
LEAST_AGAIN_S: Final = 1.0  # of this host
MOST_CRASHES: Final = 5  # in a run
SETTLED_S: Final = 5.0  # a process that started before that has joined its groups


class Boards:
    """Opens the places, starts the clients, and does to them what a scenario says.

    Leaving the block closes every place, with all that runs in it.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        layout: Layout,
        children: Children,
        journal: Journal,
        broker: tuple[str, int],
        say: Callable[[str], None],
    ) -> None:
        self.actors = {device.name: Actor(device=device) for device in setup.devices}
        self._setup = setup
        self._scale = setup.pace.scale
        self._layout = layout
        self._children = children
        self._journal = journal
        self._broker = broker
        self._say = say
        self._does: dict[Kind, Callable[[Actor, Act], dict[str, Any]]] = {
            Kind.JOIN: self._join,
            Kind.LEAVE: self._leave,
            Kind.REBOOT: self._reboot,
            Kind.HOT: self._hot,
            Kind.CUT: self._cut,
            Kind.DISK_FULL: self._disk_full,
        }

    def __enter__(self) -> Boards:
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self.actors.values():
            if actor.place is not None:
                actor.place.close()
                actor.closed.append(actor.place)
                actor.place = None
            if actor.disk is not None:
                actor.disk.close()

    def open(self) -> None:
        """Open every place and write every `client.toml`.

        Raises:
            EmulationError: this host cannot be one of the boards.
        """
        for number, actor in enumerate(self.actors.values(), start=1):
            if number == 1 or number % 10 == 0:
                self._say(f"opening the boards: {number} of {len(self.actors)}")
            self._bound_store(actor)
            self._open_place(actor)

    def start(self, name: str) -> None:
        """Start a device's client in its place."""
        actor = self.actors[name]
        place = actor.open_place
        command = python_module("edge_client.cli", "run", str(self._layout.client_file(name)))
        self._children.start(name, command, place.start)
        actor.wanted, actor.again_s = True, None
        actor.started_s = self._journal.now_s
        self._journal.note("client_started", device=name)

    def perform(self, act: Act) -> str | None:
        """Do what the scenario says, and note it; None, or why it cannot be done."""
        actor = self.actors[act.device]
        event = "happened" if act.begins else "over"
        try:
            facts = self._does[act.kind](actor, act)
        except EmulationError as error:
            event, facts = "not_done", {"reason": str(error)}
        self._journal.note(event, device=act.device, kind=act.kind.value, **facts)
        self._say(_sentence(event, act, facts))
        return str(facts["reason"]) if event == "not_done" else None

    def look(self) -> None:
        """Clients that ended, processes killed for memory, disks that are to stay full."""
        for actor in self.actors.values():
            if actor.is_full and actor.disk is not None:
                actor.disk.fill()
            if actor.place is None:
                continue
            self._look_at_client(actor)
            self._look_at_memory(actor)

    def look_at_groups(self) -> None:
        """Whether the kernel still limits the clients; a board that it does not is made anew."""
        for actor in self.actors.values():
            running = actor.place is not None and actor.wanted and actor.again_s is None
            settled = self._journal.now_s - actor.started_s > SETTLED_S
            if (
                running
                and settled
                and not is_limited(self._children[actor.name].pid, actor.open_place)
            ):
                self._remake(actor)

    def end(self) -> None:
        """No client is wanted any more."""
        for actor in self.actors.values():
            actor.wanted = False

    # What happens

    def _join(self, actor: Actor, act: Act) -> dict[str, Any]:
        self.start(actor.name)
        return {}

    def _leave(self, actor: Actor, act: Act) -> dict[str, Any]:
        if act.begins:
            actor.wanted, actor.again_s = False, None
            self._children[actor.name].signal_group(signal.SIGTERM)
        else:
            self.start(actor.name)
        return {}

    def _reboot(self, actor: Actor, act: Act) -> dict[str, Any]:
        if not act.begins:
            self.start(actor.name)
            return {}
        if not actor.wanted:
            raise EmulationError("it is not running")
        actor.wanted, actor.again_s = False, None
        self._kill(actor)
        return {}

    def _hot(self, actor: Actor, act: Act) -> dict[str, Any]:
        factor = act.happening.factor if act.begins else 1.0
        actor.open_place.change_speed(factor)
        return {"factor": factor}

    def _cut(self, actor: Actor, act: Act) -> dict[str, Any]:
        if act.begins:
            actor.open_place.cut_link()
        else:
            actor.open_place.restore_link()
        return {}

    def _disk_full(self, actor: Actor, act: Act) -> dict[str, Any]:
        if actor.disk is None:
            raise EmulationError(f"its store has no bound: {actor.disk_text}")
        actor.is_full = act.begins
        if act.begins:
            return {"filled_bytes": actor.disk.fill()}
        actor.disk.make_room()
        return {}

    # What is looked after

    def _look_at_client(self, actor: Actor) -> None:
        if actor.again_s is not None:
            if self._journal.now_s >= actor.again_s:
                self.start(actor.name)
            return
        if not actor.wanted:
            return
        child = self._children[actor.name]
        code = child.process.poll()
        if code is None:
            return
        actor.crashes += 1
        given_up = actor.crashes > MOST_CRASHES
        last = last_lines(child.log, 1).strip()
        self._journal.note(
            "client_ended", device=actor.name, exit_code=code, given_up=given_up, last_line=last
        )
        what = "given up" if given_up else "starting it again"
        self._say(f"{actor.name}: its client ended with {code} ({what}): {last}")
        actor.wanted = not given_up
        if not given_up:
            pause_s = max(LEAST_AGAIN_S, self._scale.host_s(AGAIN_S))
            actor.again_s = self._journal.now_s + pause_s

    def _look_at_memory(self, actor: Actor) -> None:
        kills = actor.usage().get("memory_kills")
        if kills is not None and kills > actor.memory_kills:
            self._journal.note(
                "memory_kill", device=actor.name, processes=kills - actor.memory_kills
            )
            self._say(f"{actor.name}: the kernel killed a process at the memory limit")
            actor.memory_kills = kills

    def _remake(self, actor: Actor) -> None:
        """The groups have gone: another place, with the client started anew in it."""
        actor.limits_lost += 1
        self._journal.note("limits_lost", device=actor.name)
        self._say(f"{actor.name}: its control group has gone; its board is made anew")
        self._kill(actor)
        place = actor.open_place
        place.close()
        actor.closed.append(place)
        actor.place = None
        self._open_place(actor)
        self.start(actor.name)

    def _kill(self, actor: Actor) -> None:
        """As a power cut: everything that runs on the board, at once."""
        end_all(actor.open_place.members)
        self._children.kill(actor.name)

    def _open_place(self, actor: Actor) -> None:
        device = actor.device
        actor.place = confine(
            device.board,
            scale=self._scale,
            memory=FROM_BOARD if device.group.memory_mib is None else device.memory_bytes,
            link=FROM_BOARD if device.has_boards_link else device.link,
            host=self._setup.machine.speed,
        )
        host, port = actor.place.reach(*self._broker)
        broker = BrokerConfig(host=host, port=port, keepalive_s=keepalive_s(self._scale))
        write_client(self._layout, device, broker, self._scale, self._setup.fleet.figures)

    def _bound_store(self, actor: Actor) -> None:
        size_mib = actor.device.group.store_mib
        if size_mib is None and actor.name in self._setup.bounded:
            size_mib = DEFAULT_STORE_MIB
        if size_mib is None:
            return
        try:
            actor.disk = mount_small_disk(self._layout.store(actor.name), size_mib)
            actor.disk_text = actor.disk.mechanism
        except EmulationError as error:
            actor.disk_text = f"this host's, without a bound of {size_mib:g} MiB: {error}"
            self._say(f"{actor.name}: {actor.disk_text}")


def _sentence(event: str, act: Act, facts: dict[str, Any]) -> str:
    if event == "not_done":
        return f"{act.device}: {act.kind.value} could not be done: {facts['reason']}"
    if event == "over":
        return f"{act.device}: {act.kind.value} is over"
    lasts_s = act.happening.lasts_s
    time_text = "" if lasts_s is None else f" for {lasts_s:g} s of the board"
    return f"{act.device}: {act.kind.value}{time_text}"
