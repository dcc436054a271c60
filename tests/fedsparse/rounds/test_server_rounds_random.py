"""Whatever happens, in whatever order: no update is lost or counts twice, every round ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_round_scenes import LEVELS, digest, policy, ready

from fedsparse.rounds.server import (
    Assign,
    Close,
    Effect,
    Phase,
    Policy,
    Repeat,
    ServerRounds,
    Start,
)
from fedsparse.wire.messages import Stage, Verdict

DEVICES = ("a", "b", "c", "d")
DEADLINE_S = 20.0

KINDS = (
    "all answer", "all answer", "all answer", "answer", "decline", "no plan", "online", "offline",
    "update", "update", "twin", "other", "fail", "old update", "old fail", "wait", "restart",
)  # fmt: skip
# Times are binary fractions, so that sums of them are exact.
events = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(DEVICES),
    st.sampled_from(LEVELS),
    st.integers(0, 16).map(lambda halves: halves / 2),
)
policies = st.builds(
    policy,
    min_devices=st.integers(1, 3),
    expected_devices=st.integers(0, 4),
    participation=st.sampled_from([0.3, 1.0]),
    gather_s=st.just(4.0),
    deadline_s=st.just(DEADLINE_S),
    offline_grace_s=st.sampled_from([0.0, 3.0]),
    quorum=st.sampled_from([0.5, 1.0]),
    rotate_levels=st.booleans(),
    seed=st.integers(0, 3),
)


@dataclass
class Caller:
    """What surrounds the machine: a spool, a diary, and the next round's offer."""

    policy: Policy
    stage: Stage
    machine: ServerRounds = field(init=False)
    now_s: float = 0.0
    round_id: int = 0
    levels: tuple[float, ...] = LEVELS
    started: bool = False
    spool: dict[str, str] = field(default_factory=dict)
    cohort: dict[str, float] = field(default_factory=dict)
    folded: list[tuple[int, str, str]] = field(default_factory=list)
    acknowledged: set[tuple[int, str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.machine = ServerRounds(self.policy)
        self.open()

    def open(self) -> None:
        self.perform(
            self.machine.open(
                self.round_id, self.stage, self.levels, self.now_s,
                cohort=self.cohort, delivered=self.spool,
            )
        )  # fmt: skip

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(levels=levels):
                    assert not self.started
                    self.started, self.levels = True, levels
                case Assign(device=device, level=level):
                    assert level in self.levels
                    answer = self.machine.answer(device)
                    assert answer is not None
                    assert answer.level is not None
                    assert level <= answer.level
                    assert device not in self.spool
                    self.cohort[device] = level
                case Close(round_id=round_id, devices=devices):
                    assert round_id == self.round_id
                    assert list(devices) == sorted(self.spool)  # nothing that was stored is lost
                    assert devices
                    self.folded += [(round_id, one, self.spool[one]) for one in devices]
                    self.next_round(1)
                case Repeat(round_id=round_id):
                    assert round_id == self.round_id
                    assert not self.spool
                    self.next_round(0)

    def next_round(self, step: int) -> None:
        self.round_id += step
        self.stage = Stage.TRAIN if step else self.stage
        self.spool, self.cohort = {}, {}
        self.open()

    def update(self, device: str, round_id: int, content: str) -> None:
        name = digest(content)
        verdict = self.machine.verdict(device, round_id, name)
        if verdict is None:
            assert round_id == self.round_id
            assert device in self.cohort
            assert device not in self.spool
            self.spool[device] = name
            self.acknowledged.add((round_id, device, name))
            self.perform(self.machine.stored({device: name}, self.now_s))
        elif verdict is Verdict.ACCEPTED:
            assert (round_id, device, name) in self.acknowledged

    def act(self, kind: str, device: str, level: float, wait_s: float) -> None:
        self.now_s += wait_s if kind == "wait" else wait_s / 64
        machine, now_s, mine = self.machine, self.now_s, f"{device}/{self.round_id}"
        if kind == "online":
            self.perform(machine.device_online(device, now_s))
        elif kind == "offline":
            self.perform(machine.device_offline(device, now_s))
        elif kind == "all answer":
            for one in DEVICES:
                self.perform(machine.answered(one, ready(level, self.round_id), now_s))
        elif kind == "answer":
            self.perform(machine.answered(device, ready(level, self.round_id), now_s))
        elif kind == "decline":
            self.perform(machine.answered(device, ready(None, self.round_id), now_s))
        elif kind == "no plan":
            plea = ready(None, self.round_id, has_plan=False)
            self.perform(machine.answered(device, plea, now_s))
        elif kind in ("update", "twin"):
            for _ in range(2 if kind == "twin" else 1):
                self.update(device, self.round_id, mine)
        elif kind == "other":
            self.update(device, self.round_id, mine + "'")
        elif kind == "fail":
            self.perform(machine.failed(device, self.round_id, now_s))
        elif kind == "old update":
            self.update(device, max(0, self.round_id - 1), f"{device}/{self.round_id - 1}")
        elif kind == "old fail":
            self.perform(machine.failed(device, max(0, self.round_id - 1), now_s))
        elif kind == "restart":
            online = machine.online
            self.machine = ServerRounds(self.policy, started=self.started)
            for one in sorted(online):
                self.machine.device_online(one, now_s)
            self.open()
        self.perform(self.machine.tick(now_s))


@pytest.mark.parametrize("stage", [Stage.SENSE, Stage.TRAIN])
@given(chosen=policies, story=st.lists(events, min_size=20, max_size=60))
@settings(max_examples=120, deadline=None)
def test_no_update_is_lost_or_counted_twice_and_every_round_ends(
    stage: Stage, chosen: Policy, story: list[tuple[str, str, float, float]]
) -> None:
    caller = Caller(chosen, stage)
    for event in story:
        caller.act(*event)
        # A round that trains has a deadline ahead, and time alone takes it there.
        if caller.machine.phase is Phase.TRAINING:
            assert 0 < caller.machine.next_tick_s(caller.now_s) <= DEADLINE_S
            assert caller.machine.seconds_left(caller.now_s) <= DEADLINE_S
    before = caller.round_id
    was_training = caller.machine.phase is Phase.TRAINING
    had = dict(caller.spool)
    caller.now_s += DEADLINE_S
    caller.perform(caller.machine.tick(caller.now_s))
    if was_training:
        assert caller.machine.phase is Phase.GATHERING  # of the next round, or of this one again
        assert caller.round_id == before + bool(had)
    folded = [(round_id, device) for round_id, device, _ in caller.folded]
    assert len(folded) == len(set(folded))
    stored = {(caller.round_id, device, name) for device, name in caller.spool.items()}
    assert set(caller.folded) | stored == caller.acknowledged


@given(chosen=policies, order=st.permutations(DEVICES), level=st.sampled_from(LEVELS))
@settings(max_examples=60, deadline=None)
def test_the_cohort_does_not_depend_on_the_order_of_answers(
    chosen: Policy, order: list[str], level: float
) -> None:
    cohorts = []
    for names in (order, sorted(order)):
        machine = ServerRounds(chosen, started=True)
        for name in names:
            machine.device_online(name, 0.0)
        machine.open(3, Stage.TRAIN, LEVELS, 0.0)
        for name in names:
            machine.answered(name, ready(level if name < "c" else LEVELS[-1], 3), 0.0)
        machine.tick(4.0)
        cohorts.append(dict(machine.cohort()))
    assert cohorts[0] == cohorts[1]
