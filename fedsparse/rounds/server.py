"""The server's side of a round: who takes part, who has delivered, and when it is over.

`TRANSITIONS` is the specification. The machine holds no weights and does no I/O: the caller feeds
it what happened, performs the effects that come back, and calls `tick` when time has passed.

A round *gathers* the answers of the devices that are online, *trains* a cohort of those that are
ready, and is *closed* with whatever was delivered when everyone is done or the deadline passes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from fedsparse.errors import LocalProtocolError
from fedsparse.rounds.turns import scored_levels, trained_levels
from fedsparse.wire.messages import Ready, Stage, Verdict

ROUNDING: Final = 1e-9  # 0.07 * 100 is a little more than 7


class Phase(Enum):
    """Where a round stands."""

    IDLE = auto()
    GATHERING = auto()
    TRAINING = auto()


class Event(Enum):
    """What can happen to a round."""

    OPENED = auto()
    GATHERED = auto()
    CLOSED = auto()
    ABANDONED = auto()  # nobody delivered: the round is to be offered again


TRANSITIONS: Final = {
    (Phase.IDLE, Event.OPENED): Phase.GATHERING,
    (Phase.GATHERING, Event.GATHERED): Phase.TRAINING,
    (Phase.TRAINING, Event.CLOSED): Phase.IDLE,
    (Phase.TRAINING, Event.ABANDONED): Phase.IDLE,
}


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after `event`; raises `LocalProtocolError` where it cannot happen."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise LocalProtocolError(f"{event.name} cannot happen while {phase.name}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Send `device` its task at `level`."""

    device: str
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPlan:
    """`device` lacks the plan."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first answers are in: `levels` are those that devices can hold, largest first."""

    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The round is over; fold the spool of `devices`, in this (sorted) order."""

    round_id: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Nobody delivered: offer the round again."""

    round_id: int


Effect = Assign | SendPlan | Start | Close | Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How rounds are filled and how long they wait (see `CohortConfig` in aggregator/job.py).

    Attributes:
        min_sense_devices: `min_devices` of stage 1.
        quorum: share of the cohort whose updates close a round.
    """

    min_devices: int
    min_sense_devices: int
    expected_devices: int
    participation: float
    gather_s: float
    deadline_s: float
    offline_grace_s: float
    quorum: float
    sense_devices: int
    rotate_levels: bool
    seed: int


@dataclass(slots=True)
class _Round:
    """The round that is open.

    Attributes:
        ready: devices that are online, and answered with a level.
        unheard: devices whose answer the round waits for.
        awaited: devices of the cohort that are at work, as far as is known: neither delivered, nor
            failed, nor offline.
    """

    round_id: int
    stage: Stage
    levels: tuple[float, ...]
    opened_s: float
    deadline: float = math.inf
    answers: dict[str, Ready] = field(default_factory=dict)
    cohort: dict[str, float] = field(default_factory=dict)
    delivered: dict[str, str] = field(default_factory=dict)  # device -> digest of its update
    failed: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)


class ServerRounds:
    """One job's rounds, as a state machine.

    What an event costs does not grow with the fleet, but where a round starts or closes.

    Args:
        policy: who takes part and how long a round waits.
        started: whether the levels are settled already (a job that resumes).
    """

    def __init__(self, policy: Policy, *, started: bool = False) -> None:
        self.phase = Phase.IDLE
        self._policy = policy
        self._started = started
        self._round: _Round | None = None
        self._online: set[str] = set()
        self._silent: set[str] = set()  # online, but without an answer last time: not waited for
        self._offline_since: dict[str, float] = {}
        self._graces: deque[float] = deque()  # when each grace ends, also of who is back
        self._closed_updates: dict[tuple[int, str], str] = {}
        self._abandoned = 0  # attempts in a row; each draws its cohort anew

    @property
    def online(self) -> frozenset[str]:
        """The devices that are connected."""
        return frozenset(self._online)

    @property
    def needed(self) -> int:
        """How many devices must be ready before the open round starts; 0 where none is open."""
        return self._needed(self._round) if self._round else 0

    def answer(self, device: str) -> Ready | None:
        """What `device` answered to the open offer."""
        return self._round.answers.get(device) if self._round else None

    def cohort(self) -> Mapping[str, float]:
        """The open round's devices and their levels, as they are now; a view."""
        return MappingProxyType(self._round.cohort if self._round else {})

    def seconds_left(self, now_s: float) -> float:
        """Until the deadline; the whole duration while a round still gathers."""
        if self._round is None or math.isinf(self._round.deadline):
            return self._policy.deadline_s
        return self._round.deadline - now_s

    def open(
        self,
        round_id: int,
        stage: Stage,
        levels: tuple[float, ...],
        now_s: float,
        cohort: Mapping[str, float] | None = None,
        delivered: Mapping[str, str] | None = None,
        seconds_left: float | None = None,
    ) -> list[Effect]:
        """Open a round.

        Args:
            round_id, stage, levels: what is offered.
            now_s: the time.
            cohort: levels by device, where the server was restarted after the cohort was chosen:
                the round then goes on with it.
            delivered: digests by device of the updates that are in the spool already.
            seconds_left: until such a round's deadline; by default as long as any round has.
        """
        self.phase = next_phase(self.phase, Event.OPENED)
        current = _Round(round_id=round_id, stage=stage, levels=levels, opened_s=now_s)
        self._round = current
        if cohort:
            self.phase = next_phase(self.phase, Event.GATHERED)
            left_s = self._policy.deadline_s if seconds_left is None else seconds_left
            current.deadline = now_s + left_s
            current.cohort.update(cohort)
            current.delivered.update(delivered or {})
        for device in self._online | current.cohort.keys():
            self._heed(device)
        return self.tick(now_s)

    def device_online(self, device: str, now_s: float) -> list[Effect]:
        """`device` has announced itself."""
        self._online.add(device)
        self._offline_since.pop(device, None)
        self._heed(device)
        return self.tick(now_s)

    def device_offline(self, device: str, now_s: float) -> list[Effect]:
        """`device`'s will was delivered, or it said goodbye."""
        self._online.discard(device)
        if device not in self._offline_since:
            self._offline_since[device] = now_s
            self._graces.append(now_s + self._policy.offline_grace_s)
        self._heed(device)
        return self.tick(now_s)

    def answered(self, device: str, ready: Ready, now_s: float) -> list[Effect]:
        """`device` answered an offer; an answer to another round is ignored."""
        current = self._round
        if current is None or ready.round_id != current.round_id:
            return []
        self._online.add(device)
        self._silent.discard(device)
        self._offline_since.pop(device, None)
        self._heed(device)
        if not ready.has_plan:
            return [SendPlan(device=device)]
        if ready.level is not None and ready.level not in current.levels:
            return []
        current.answers[device] = ready
        self._heed(device)
        if self.phase is Phase.TRAINING:
            return self._reassign(current, device, ready) or self.tick(now_s)
        return self.tick(now_s)

    def verdict(self, device: str, round_id: int, digest: str) -> Verdict | None:
        """Whether an update counts: ACCEPTED, LATE, REJECTED, or None when it is new and wanted.

        None asks the caller to check it, to store it durably, and to call `stored`, alone or with
        others.
        """
        if self._closed_updates.get((round_id, device)) == digest:
            return Verdict.ACCEPTED
        current = self._round
        if current is None or round_id < current.round_id:
            return Verdict.LATE
        if round_id == current.round_id and self.phase is Phase.GATHERING:
            return Verdict.LATE  # of an earlier attempt; the device is to answer this one
        if round_id > current.round_id or device not in current.cohort:
            return Verdict.REJECTED
        if device in current.delivered:
            same = current.delivered[device] == digest
            return Verdict.ACCEPTED if same else Verdict.REJECTED
        return None

    def stored(self, digests: Mapping[str, str], now_s: float) -> list[Effect]:
        """Updates are durably in the spool, by device; all of them are part of the round."""
        current = self._round
        if current is None or not digests.keys() <= current.cohort.keys():
            raise LocalProtocolError(f"updates of {list(digests)} were stored, not all asked for")
        current.delivered.update(digests)
        current.failed.difference_update(digests)
        for device in digests:
            self._heed(device)
        return self.tick(now_s)

    def failed(self, device: str, round_id: int, now_s: float) -> list[Effect]:
        """`device` gave its task up (or its update was rejected): the round goes on without it."""
        current = self._round
        # What comes while a round gathers is about an earlier attempt of it.
        if current is not None and current.round_id == round_id and device in current.cohort:
            current.failed.add(device)
            self._heed(device)
        return self.tick(now_s)

    def forget_closed(self) -> None:
        """Nothing of the round that was just closed could be read: it is to be offered again."""
        self._closed_updates = {}
        self._abandoned += 1

    def tick(self, now_s: float) -> list[Effect]:
        """What the passing of time (or the last event) brings about."""
        current = self._round
        if current is None:
            return []
        if self.phase is Phase.GATHERING and self._gathered(current, now_s):
            return self._start_training(current, now_s)
        if self.phase is Phase.TRAINING and self._finished(current, now_s):
            return self._close(current)
        return []

    def next_tick_s(self, now_s: float) -> float:
        """Seconds until time alone may change something."""
        current = self._round
        if current is None:
            return math.inf
        while self._graces and self._graces[0] <= now_s:
            self._graces.popleft()
        moments = [current.opened_s + self._policy.gather_s, current.deadline]
        moments += [self._graces[0]] if self._graces else []
        return min((t - now_s for t in moments if t > now_s), default=math.inf)

    def _heed(self, device: str) -> None:
        """Something about `device` may have changed: put it where it belongs."""
        current = self._round
        if current is None:
            return
        answer, is_online = current.answers.get(device), device in self._online
        can_train = answer is not None and answer.level is not None
        _put(current.ready, device, is_in=is_online and can_train)
        _put(current.unheard, device, is_in=is_online and not answer and device not in self._silent)
        is_done = device in current.delivered or device in current.failed
        at_work = device in current.cohort and not is_done and device not in self._offline_since
        _put(current.awaited, device, is_in=at_work)

    def _ready(self, current: _Round) -> dict[str, float]:
        levels = {device: current.answers[device].level for device in sorted(current.ready)}
        return {device: level for device, level in levels.items() if level is not None}

    def _needed(self, current: _Round) -> int:
        sensing = current.stage is Stage.SENSE
        return self._policy.min_sense_devices if sensing else self._policy.min_devices

    def _gathered(self, current: _Round, now_s: float) -> bool:
        if len(current.ready) < self._needed(current):
            return False
        if now_s >= current.opened_s + self._policy.gather_s:
            return True
        everyone = not current.unheard
        if self._started:
            return everyone
        expected = self._policy.expected_devices
        return everyone and 0 < expected <= len(current.answers)

    def _start_training(self, current: _Round, now_s: float) -> list[Effect]:
        self.phase = next_phase(self.phase, Event.GATHERED)
        current.deadline = now_s + self._policy.deadline_s
        ready = self._ready(current)
        self._silent = self._online - current.answers.keys()
        effects: list[Effect] = []
        if not self._started:
            self._started = True
            largest = max(ready.values())
            current.levels = tuple(level for level in current.levels if level <= largest)
            effects.append(Start(levels=current.levels))
        cohort = self._sample(current, ready)
        current.cohort.update(cohort)
        for device in cohort:
            self._heed(device)
        effects += [Assign(device=device, level=level) for device, level in cohort.items()]
        return effects + self.tick(now_s)

    def _sample(self, current: _Round, ready: dict[str, float]) -> dict[str, float]:
        """The cohort: in stage 1 a few of the largest level there is, else a share of all ready."""
        candidates = list(ready)
        if current.stage is Stage.SENSE:
            largest = max(ready.values())
            candidates = [d for d in candidates if ready[d] == largest]
            wanted = self._policy.sense_devices
        elif current.stage is Stage.EVALUATE:
            wanted = len(candidates)
        else:
            wanted = max(
                self._policy.min_devices, math.ceil(self._policy.participation * len(ready))
            )
        seed = f"{self._policy.seed}/{current.round_id}/{self._abandoned}"
        draw = random.Random(seed)  # noqa: S311 (a draw)
        chosen = draw.sample(candidates, min(wanted, len(candidates)))
        cohort = {device: ready[device] for device in sorted(chosen)}
        if current.stage is Stage.SENSE or not self._policy.rotate_levels:
            return cohort
        if current.stage is Stage.EVALUATE:
            return scored_levels(current.levels, cohort)
        return trained_levels(current.levels, cohort, current.round_id, self._policy.seed)

    def _reassign(self, current: _Round, device: str, ready: Ready) -> list[Effect]:
        """A device of the cohort that answers again has lost its task."""
        if device not in current.cohort or device in current.delivered:
            return []
        if ready.level is None:
            current.failed.add(device)
            self._heed(device)
            return []
        current.failed.discard(device)
        self._heed(device)
        level = min(ready.level, current.cohort[device])
        current.cohort[device] = level
        return [Assign(device=device, level=level)]

    def _finished(self, current: _Round, now_s: float) -> bool:
        if now_s >= current.deadline or len(current.delivered) >= self._enough(current):
            return True
        if current.awaited:
            return False
        waiting = current.cohort.keys() - current.delivered.keys() - current.failed
        grace = self._policy.offline_grace_s
        return all(now_s >= self._offline_since[device] + grace for device in waiting)

    def _enough(self, current: _Round) -> int:
        """Updates that close the round before its deadline."""
        return max(1, math.ceil(self._policy.quorum * len(current.cohort) - ROUNDING))

    def _close(self, current: _Round) -> list[Effect]:
        self._round = None
        if not current.delivered:
            self.phase = next_phase(self.phase, Event.ABANDONED)
            self._abandoned += 1
            return [Repeat(round_id=current.round_id)]
        self.phase = next_phase(self.phase, Event.CLOSED)
        self._abandoned = 0
        self._closed_updates = {
            (current.round_id, device): digest for device, digest in current.delivered.items()
        }
        return [Close(round_id=current.round_id, devices=tuple(sorted(current.delivered)))]


def _put(devices: set[str], device: str, *, is_in: bool) -> None:
    (devices.add if is_in else devices.discard)(device)
