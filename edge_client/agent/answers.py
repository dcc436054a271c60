"""What a device says to offers; one that it declined is thought over while the round waits."""

from __future__ import annotations

import math
import time
from typing import Final

from edge_client.agent.choice import Answer, CalibrationMissing, Chooser, PlanMissing
from edge_client.agent.ledger import Ledger
from edge_client.runtime.setup import EngineSetup
from fedsparse.transport.channel import Channel
from fedsparse.wire.messages import LastDecision, Offer, Ready, Stage, Task

LOOK_AGAIN_S: Final = 60.0  # a device that declined asks itself again, while the round waits


class Answers:
    """The answers of one device.

    Args:
        chooser: finds them.
        ledger: remembers them.
        channel: takes them to the aggregator.

    Attributes:
        current: the last one; None at the beginning.
    """

    def __init__(self, chooser: Chooser, ledger: Ledger, channel: Channel) -> None:
        self.current: Answer | None = None
        self._chooser = chooser
        self._ledger = ledger
        self._channel = channel
        self._look_again_s = math.inf
        self._announced: object = None
        self._bad_data: tuple[int, str] | None = None  # when the file was written, what is wrong

    def find(self, offer: Offer) -> Answer | PlanMissing | CalibrationMissing:
        """The answer to an offer, or what is to be had before there can be one."""
        if self._bad_data is not None and self._bad_data[0] == self._chooser.data_changed_ns():
            return self._chooser.decline(offer, self._bad_data[1])
        return self._chooser.choose(offer)

    def give(self, answer: Answer) -> None:
        """Send an answer and remember it."""
        self.current = answer
        learner = answer.learner
        self._ledger.decided(answer.document, learner.decision if learner is not None else None)
        self.send()
        self._announce(answer)
        self._look_again_s = time.monotonic() + LOOK_AGAIN_S if answer.may_change else math.inf

    def ask_for_plan(self, offer: Offer) -> None:
        """Answer that the plan is to be sent first."""
        self.current = Answer(
            ready=Ready(
                job=offer.job,
                round_id=offer.round_id,
                attempt=offer.attempt,
                level=None,
                has_plan=False,
            )
        )
        self.send()

    def send(self) -> None:
        """Send the last answer, again where it was sent before."""
        if self.current is not None:
            self._channel.send(None, self.current.ready)

    def has_changed(self, offer: Offer | None) -> bool:
        """Whether an offer that was declined can be taken by now; looks every `LOOK_AGAIN_S`."""
        if time.monotonic() < self._look_again_s:
            return False
        if offer is None or offer.stage is Stage.DONE:
            self._look_again_s = math.inf
            return False
        self._look_again_s = time.monotonic() + LOOK_AGAIN_S
        choice = self.find(offer)
        return not isinstance(choice, Answer) or choice.ready.level is not None

    def accepts(self, task: Task) -> bool:
        """Whether a task is at the level that was taken, or below."""
        level = self.current.ready.level if self.current is not None else None
        return level is not None and task.level <= level

    def setup_for(self, task: Task) -> EngineSetup:
        """How a task is to be run, as was decided for its level."""
        setups = self.current.setups if self.current is not None else {}
        return setups.get(task.level, EngineSetup(micro_batch=task.batch_size))

    def data_are_bad(self, reason: str) -> None:
        """Offers are declined until the file of the samples is another one."""
        self._bad_data = (self._chooser.data_changed_ns(), reason)

    def _announce(self, answer: Answer) -> None:
        """In the status, which stays: another level, another job, or another rule that forbids."""
        ready = answer.ready
        if self._announced != (what := (ready.job, ready.level, answer.forbidden_by)):
            self._announced = what
            self._channel.announce(
                LastDecision(
                    job=ready.job, round_id=ready.round_id, level=ready.level, reason=ready.reason
                )
            )
