"""A device's side of a round: decide, train, deliver; `TRANSITIONS` is the specification.

The machine knows neither the engine nor the broker. Everything may be told to it twice: an offer
comes again after every reconnect, and a task or a receipt may be delivered twice by the broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from fedsparse.body import Body
from fedsparse.errors import LocalProtocolError
from fedsparse.wire.messages import Offer, Receipt, Stage, Task, Verdict


class Phase(Enum):
    """What a device is doing."""

    IDLE = auto()
    DECIDING = auto()  # it has an offer, and finds out whether and how it can take part
    READY = auto()  # it has answered, and waits for a task
    TRAINING = auto()
    UPLOADING = auto()  # its update is in the outbox, and waits for the receipt


class Event(Enum):
    """What can happen to a device."""

    OFFERED = auto()
    REPEATED = auto()  # the offer that it is at work on came again
    DECIDED = auto()
    DECLINED = auto()
    ASSIGNED = auto()
    MASK_MISSING = auto()  # the task names a mask that is not here: it is asked for
    TRAINED = auto()
    FAILED = auto()
    DELIVERED = auto()
    FINISHED = auto()  # the job is done


TRANSITIONS: Final = (
    {(phase, Event.OFFERED): Phase.DECIDING for phase in Phase}
    | {(phase, Event.REPEATED): phase for phase in Phase if phase is not Phase.IDLE}
    | {(Phase.IDLE, Event.REPEATED): Phase.DECIDING}  # the server may have begun afresh
    | {(phase, Event.FINISHED): Phase.IDLE for phase in Phase}
    | {
        (Phase.DECIDING, Event.DECIDED): Phase.READY,
        (Phase.DECIDING, Event.DECLINED): Phase.IDLE,
        (Phase.DECIDING, Event.TRAINED): Phase.UPLOADING,  # it was in the outbox already
        (Phase.READY, Event.ASSIGNED): Phase.TRAINING,
        (Phase.TRAINING, Event.TRAINED): Phase.UPLOADING,
        (Phase.TRAINING, Event.MASK_MISSING): Phase.READY,
        (Phase.TRAINING, Event.FAILED): Phase.IDLE,
        (Phase.UPLOADING, Event.DELIVERED): Phase.IDLE,
    }
)


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after `event`; raises `LocalProtocolError` where it cannot happen."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise LocalProtocolError(f"{event.name} cannot happen while {phase.name}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Find out whether and at which level the device can take part in `offer`."""

    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerAgain:
    """The answer may have been lost: send the last one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Start a trainer for `task`, whose parts are in `body`."""

    task: Task
    body: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTraining:
    """The task is of no use any more: end its trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Send what is in the outbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutbox:
    """The update was delivered, or nobody wants it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPlan:
    """The plan has come: keep it, and decide."""

    task: Task
    body: Body


Effect = Decide | AnswerAgain | Train | StopTraining | Upload | ClearOutbox | KeepPlan


class ClientRounds:
    """One device's rounds, as a state machine."""

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.offer: Offer | None = None
        self._offered_again = False  # since the work at hand was begun

    def offered(self, offer: Offer) -> list[Effect]:
        """A round was offered, for the first time or again."""
        if offer.stage is Stage.DONE:
            effects = self._abort()
            self.offer = offer
            self.phase = next_phase(self.phase, Event.FINISHED)
            return effects
        if self.offer is not None and _key(offer) == _key(self.offer):
            self.phase = next_phase(self.phase, Event.REPEATED)
            self._offered_again = True
            again: dict[Phase, Effect] = {
                Phase.READY: AnswerAgain(),
                Phase.UPLOADING: Upload(),
                Phase.DECIDING: Decide(offer=offer),
            }
            return [again[self.phase]] if self.phase in again else []
        same_round = self.offer is not None and _key(offer)[:3] == _key(self.offer)[:3]
        if same_round and self.phase in (Phase.TRAINING, Phase.UPLOADING):
            # The server was restarted in mid-round: the work is still wanted.
            self.offer = offer
            self._offered_again = True
            return [Upload()] if self.phase is Phase.UPLOADING else []
        effects = self._abort()
        self.offer = offer
        self.phase = next_phase(self.phase, Event.OFFERED)
        return [*effects, Decide(offer=offer)]

    def decided(self, *, takes_part: bool) -> None:
        """The device has answered the offer."""
        event = Event.DECIDED if takes_part else Event.DECLINED
        self.phase = next_phase(self.phase, event)

    def in_outbox(self) -> list[Effect]:
        """The update for the offered round was trained before a restart: deliver it."""
        self.phase = next_phase(self.phase, Event.TRAINED)
        return [Upload()]

    def wants(self, task: Task) -> bool:
        """Whether this task is waited for; not one for another round, nor one already at work."""
        if not self._is_current(task.job, task.round_id):
            return False
        if self.offer is not None and task.run != self.offer.run:
            return False
        return self.phase is (Phase.DECIDING if task.brings_plan else Phase.READY)

    def assigned(self, task: Task, body: Body) -> list[Effect]:
        """A task came; one that is not waited for is ignored."""
        if not self.wants(task):
            return []
        if task.brings_plan:
            return [KeepPlan(task=task, body=body)]
        self.phase = next_phase(self.phase, Event.ASSIGNED)
        self._offered_again = False
        return [Train(task=task, body=body)]

    def trained(self) -> list[Effect]:
        """The trainer has put an update into the outbox."""
        self.phase = next_phase(self.phase, Event.TRAINED)
        return [Upload()]

    def mask_missing(self) -> None:
        """The trainer lacks the task's mask; the task is to come again with it."""
        self.phase = next_phase(self.phase, Event.MASK_MISSING)

    def failed(self) -> list[Effect]:
        """The trainer ended without an update; an offer that came meanwhile is then answered."""
        self.phase = next_phase(self.phase, Event.FAILED)
        return self._decide_again() if self._offered_again else []

    def received(self, receipt: Receipt, update_digest: str) -> list[Effect]:
        """A receipt came; one for another update is ignored."""
        is_current = self._is_current(receipt.job, receipt.round_id)
        is_ours = is_current and receipt.update_digest == update_digest
        if self.phase is not Phase.UPLOADING or not is_ours:
            return []
        self.phase = next_phase(self.phase, Event.DELIVERED)
        # The round may be offered again: a device that kept silent would be waited for.
        again = self._decide_again() if receipt.verdict is Verdict.LATE else []
        return [ClearOutbox(), *again]

    def _decide_again(self) -> list[Effect]:
        if self.offer is None:
            return []
        self.phase = next_phase(self.phase, Event.OFFERED)
        return [Decide(offer=self.offer)]

    def _abort(self) -> list[Effect]:
        """What it takes to drop the work at hand."""
        if self.phase is Phase.TRAINING:
            return [StopTraining()]
        return [ClearOutbox()] if self.phase is Phase.UPLOADING else []

    def _is_current(self, job: str, round_id: int) -> bool:
        return self.offer is not None and (self.offer.job, self.offer.round_id) == (job, round_id)


def _key(offer: Offer) -> tuple[str, bytes, int, int]:
    return offer.job, offer.run, offer.round_id, offer.attempt
