"""What the aggregator says to devices: offers, tasks, receipts."""

from __future__ import annotations

import logging

from aggregator.course import Course
from aggregator.events import Diary
from aggregator.job import JobConfig
from aggregator.tasks import Addressee, make_task, plan_task
from aggregator.traffic import Traffic
from fedsparse.body import NO_BODY, Body
from fedsparse.errors import TransportError
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.transport.channel import Channel
from fedsparse.wire.messages import MAX_TEXT, Message, Offer, Receipt, Verdict

log = logging.getLogger("aggregator")


class Sender:
    """Sends; what cannot be sent now is asked for again: the next offer makes devices do so.

    Args:
        job, plan, graph: what is trained.
        course: where the job stands.
        channel: the way to the devices.
        traffic, events: are told of tasks.
    """

    def __init__(
        self,
        job: JobConfig,
        plan: Plan,
        graph: TrainingGraph | None,
        course: Course,
        channel: Channel,
        traffic: Traffic,
        events: Diary,
    ) -> None:
        self._job = job
        self._plan = plan
        self._graph = graph.to_bytes() if graph is not None else b""
        self._course = course
        self._channel = channel
        self._traffic = traffic
        self._events = events

    def offer(self, left_s: float) -> tuple[Offer, bool]:
        """Publish the offer of the present round; that, and whether it could be sent.

        Args:
            left_s: of the round, in seconds.
        """
        offer = self._course.offer(max(0.001, left_s))
        return offer, self._send(None, offer)

    def task(self, to: Addressee, left_s: float) -> None:
        """Give a device its work."""
        task, body = make_task(
            self._job, self._course.model, self._course.round, to, max(0.001, left_s)
        )
        self._send(to.device, task, body)
        self._traffic.of(to.device).sent(task.parts)
        self._events.write("task_sent", round=task.round_id, device=to.device, level=to.level)

    def plan(self, device: str) -> None:
        """Give a device the plan, and its training graph."""
        task, text = plan_task(self._job, self._plan, self._course.round, self._graph)
        self._send(device, task, text)
        self._traffic.of(device).sent(task.parts)

    def receipt(
        self, device: str, round_id: int, digest: str, verdict: Verdict, reason: str = ""
    ) -> None:
        """Say what became of an update."""
        receipt = Receipt(
            job=self._job.name,
            round_id=round_id,
            update_digest=digest,
            verdict=verdict,
            reason=reason[:MAX_TEXT],
        )
        self._send(device, receipt)

    def _send(self, device: str | None, message: Message, body: Body = NO_BODY) -> bool:
        try:
            self._channel.send(device, message, body)
        except TransportError as error:
            log.error("not_sent=%s to=%s reason=%r", type(message).__name__, device, str(error))
            return False
        return True
