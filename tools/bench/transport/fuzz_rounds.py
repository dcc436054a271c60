"""Broken messages in the middle of good ones, through both channels and both state machines.

Two devices and a gateway work on rounds. What they send each other is lost, doubled, late, comes on
another's topic, or is mutated: then the broken one comes beside the good one, or in its place. The
rounds must go on, nothing may be raised, and nothing may pile up.
"""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fedsparse.transport.memory import MemoryBroker
from tools.bench.transport.fuzz_ends import FuzzDevice, FuzzGateway
from tools.bench.transport.fuzz_result import FuzzResult
from tools.bench.transport.mutations import mutated
from tools.bench.transport.process_usage import resident_mb

BLOCK: Final = 20_000  # frames that follow from one seed, and one fleet
DEVICES: Final = ("one", "two")
MOST_KEPT: Final = 20_000  # entries of all containers of a fleet
MOST_TOLD: Final = 10
LATE: Final = 20  # messages that may be on their way while others overtake them
OURS: Final = ("fedsparse.transport", "fedsparse.rounds", "tools.bench.transport.fuzz")


class BreakingBroker(MemoryBroker):
    """Routes what it is given, and worse.

    Args:
        draw: decides.

    Attributes:
        mutants: how many broken payloads it has made.
    """

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.mutants = 0
        self._draw = draw
        self._late: deque[tuple[str, bytes]] = deque(maxlen=LATE)

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Pass it on: as it is, not at all, twice, later, on another topic, or broken."""
        way = self._draw.random()
        if payload and way < 0.6:
            self.mutants += 1
            bad = mutated(payload, self._draw)
            super().route(self._other_topic(topic), bad, retain=False)
        if way > 0.95:
            return
        super().route(topic, payload, retain=retain)
        if way > 0.9:
            super().route(topic, payload, retain=False)
        if way > 0.8:
            self._late.append((topic, payload))
        elif way > 0.7 and self._late:
            super().route(*self._late.popleft(), retain=False)

    def _other_topic(self, topic: str) -> str:
        way, levels = self._draw.random(), topic.split("/")
        if way < 0.1 and levels[3] in ("up", "down"):
            levels[4] = self._draw.choice((*DEVICES, "three", "..", "", "+"))
        elif way < 0.2:
            levels[-1] = self._draw.choice(
                ("message", "status", "0", "7", "999999", "-1", "x" * 70)
            )
        return "/".join(levels)


class _Fleet:
    """A gateway, two devices and a broker that breaks things; time goes by in steps."""

    def __init__(self, draw: random.Random, folder: Path) -> None:
        self.now_s = 0.0
        self.draw = draw
        self.broker = BreakingBroker(draw)
        self.gateway = FuzzGateway(self.broker, self._clock, folder)
        self.devices = [FuzzDevice(self.broker, self._clock, folder, one) for one in DEVICES]

    def step(self) -> None:
        """Everybody deals with what has come; sometimes a connection breaks off."""
        self.now_s += self.draw.choice((0.01, 0.1, 0.5, 2.0))
        for end in (*self.devices, self.gateway):
            end.work()
            end.remind()
        if self.draw.random() < 0.01:
            end = self.draw.choice(self.devices)
            self.broker.cut(end.channel._transport)  # type: ignore[arg-type]

    def _clock(self) -> float:
        return self.now_s


def fuzz_rounds(count: int, seed: int, tell: Callable[[float], None]) -> FuzzResult:
    """Make `count` broken payloads in the middle of rounds.

    Args:
        count: how many, at least.
        seed: of everything.
        tell: is told which share is done.
    """
    began_s = time.monotonic()
    frames = refused = reached = rounds = most_kept = block = 0
    unexpected, warm_mb = list[str](), 0.0
    while frames < count and len(unexpected) < MOST_TOLD:
        with tempfile.TemporaryDirectory(prefix="fedsparse-fuzz-") as name:
            fleet = _Fleet(random.Random(f"{seed}/{block}"), Path(name))  # noqa: S311
            wanted = min(BLOCK, count - frames)
            try:
                while fleet.broker.mutants < wanted:
                    fleet.step()
            except Exception:  # noqa: BLE001 (which one, is what is asked)
                unexpected.append(f"seed {seed}, block {block}:\n{traceback.format_exc()}")
        kept = sum(containers((fleet.gateway, fleet.devices, fleet.broker)).values())
        if kept > MOST_KEPT:
            unexpected.append(f"seed {seed}, block {block}: {kept} entries are kept")
        frames += fleet.broker.mutants
        ends = (fleet.gateway, *fleet.devices)
        refused += sum(end.refused for end in ends)
        reached += sum(end.reached for end in ends)
        rounds += fleet.gateway.closed
        most_kept, block = max(most_kept, kept), block + 1
        if not warm_mb and frames * 10 >= count:
            warm_mb = resident_mb()
        tell(min(1.0, frames / count))
    return FuzzResult(
        target="rounds",
        seed=seed,
        frames=frames,
        refused=refused,
        reached=reached,
        rounds=rounds,
        unexpected=tuple(unexpected),
        most_kept=most_kept,
        growth_mb=resident_mb() - warm_mb,
        wall_s=time.monotonic() - began_s,
    )


def containers(root: object) -> dict[str, int]:
    """How many entries each container holds that can be reached from our own objects."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            found[path] = found.get(path, 0) + len(value)
            entries = value.values() if isinstance(value, dict) else value
            waiting += [(f"{path}[]", one) for one in entries]
        elif type(value).__module__.startswith(OURS):
            waiting += [(f"{path}.{name}", one) for name, one in _attributes(value)]
    return found


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)
