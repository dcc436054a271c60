"""From an offer to an answer: policy, plan, calibration, samples, budget."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec

from edge_client.agent.ledger import Learner, Ledger
from edge_client.budget.decide import Decision, Experience, decide, trainer_share
from edge_client.budget.document import Document, Setting, describe
from edge_client.budget.forecast import CostFunction
from edge_client.budget.policy import Moment, judge, too_hot
from edge_client.budget.policy_file import PolicyFile
from edge_client.calibration import Calibration
from edge_client.config import ClientConfig
from edge_client.data.header import count_samples
from edge_client.data.holdout import holdout_sizes
from edge_client.host import Host
from edge_client.memory import rss_bytes
from edge_client.probe.processes import running
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.store import Store
from edge_client.trainer.footprint import SampleCounts
from edge_client.trainer.request import CalibrateRequest
from fedsparse import __version__
from fedsparse.errors import DataError, EngineError, FedSparseError
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.wire.messages import MAX_TEXT, Offer, Ready


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMissing:
    """The plan is not in the store: ask for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationMissing:
    """The kernels have not been measured on this plan: run this first."""

    request: CalibrateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the device says to an offer.

    Attributes:
        ready: the message.
        document: the decision with its figures, for people and programs.
        learner: the decision and where its forecasts came from; None where there was no forecast.
    """

    ready: Ready
    document: Document = field(default_factory=dict)
    learner: Learner | None = None

    @property
    def setups(self) -> Mapping[float, EngineSetup]:
        """Level -> how the device would train it."""
        return self.learner.decision.setups if self.learner is not None else {}

    @property
    def forbidden_by(self) -> tuple[str, ...]:
        """The rules of the policy that are against it."""
        rulings = self.document["policy"]["rulings"]
        return tuple(one["rule"] for one in rulings if not one["allows"])

    @property
    def may_change(self) -> bool:
        """Whether it declines for a reason that passes: the policy, or memory, time and link."""
        passes = bool(self.forbidden_by) or self.learner is not None
        return self.ready.level is None and passes


def local_time() -> datetime:
    """What the clock on the wall says, if it is set."""
    return datetime.now(tz=timezone.utc).astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Answers offers for one device; nothing is changed by an answer.

    Attributes:
        clock: local time.
    """

    config: ClientConfig
    store: Store
    host: Host
    policy: PolicyFile
    ledger: Ledger
    clock: Callable[[], datetime] = local_time

    def choose(self, offer: Offer) -> Answer | PlanMissing | CalibrationMissing:
        """The answer to an offer, or what is to be had before there can be one.

        Nothing is fetched or measured while the policy forbids to train. Samples that do not fit
        the plan are this device's own fault, as is memory that the kernel does not tell: it
        declines, and says why.
        """
        setting = self._setting(offer)
        try:
            return self._choose(setting)
        except OSError as error:
            return self._decline(setting, f"cannot decide: {error}")

    def _choose(self, setting: Setting) -> Answer | PlanMissing | CalibrationMissing:
        offer = setting.offer
        verdict = setting.verdict
        plan = self.store.load_plan(offer.plan_digest)
        if plan is None:
            return PlanMissing() if verdict.allows else self._decline(setting, verdict.reason)
        if reason := self._cannot_run(plan):
            return self._decline(setting, reason)
        try:
            samples = self._samples(plan)
        except FedSparseError as error:
            return self._decline(setting, str(error))
        found = self._calibration(offer, plan)
        if found is None and verdict.allows:
            return CalibrationMissing(request=self._request(offer, plan))
        if found is None:
            return self._decline(setting, verdict.reason)
        return self._decide(setting, plan, samples, *found)

    def decline(self, offer: Offer, reason: str) -> Answer:
        """The answer of a device that cannot take part, and why."""
        return self._decline(self._setting(offer), reason)

    def data_changed_ns(self) -> int:
        """When the samples were last written; 0 where there is no such file."""
        try:
            return self.config.data.path.stat().st_mtime_ns
        except OSError:
            return 0

    def stop_reason(self) -> str:
        """Why a task that is at work is to be ended; empty where it may go on."""
        return too_hot(self.policy.current(), self.host.heat())

    def _decide(
        self,
        setting: Setting,
        plan: Plan,
        samples: SampleCounts,
        calibration: Calibration,
        digest: str,
    ) -> Answer:
        offer = setting.offer
        path = self.store.correction_path(self._calibration_key(offer, plan))
        experience = Experience(
            correction=self.ledger.correction(path, digest),
            hold=self.ledger.hold,
            held_masks=self.store.held_masks(),
            verdict=setting.verdict,
        )
        try:
            decision = decide(
                offer,
                plan,
                samples,
                self.host,
                calibration,
                self.config.budget,
                rss_bytes(),
                experience=experience,
                cost=self._cost(plan),
            )
        except EngineError as error:  # an offer that contradicts its plan
            return self._decline(setting, str(error))
        return Answer(
            ready=self._ready(offer, decision, samples.trained),
            document=describe(setting, decision.reason, decision),
            learner=Learner(path=path, decision=decision, emulated=self.host.emulated),
        )

    def _ready(self, offer: Offer, decision: Decision, num_examples: int) -> Ready:
        forecast = decision.chosen or decision.rows[-1]
        return Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=decision.level,
            held=self._held(offer, decision.level),
            num_examples=num_examples,
            engine=forecast.setup.engine,
            board=self.host.board,
            reason=decision.reason[:MAX_TEXT],
            predicted_peak_bytes=forecast.peak_bytes,
            memory_budget_bytes=decision.means.memory_bytes,
            predicted_round_s=forecast.round_s,
        )

    def _decline(self, setting: Setting, reason: str) -> Answer:
        offer = setting.offer
        ready = Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=None,
            board=self.host.board,
            reason=reason[:MAX_TEXT],
        )
        return Answer(ready=ready, document=describe(setting, ready.reason))

    def _setting(self, offer: Offer) -> Setting:
        """Whose decision it is, and what the policy says at this moment."""
        policy = self.policy.current()
        moment = Moment(
            now=self.clock(),
            heat=self.host.heat(),
            power=self.host.power(),
            running=running(policy.processes.forbid),
        )
        return Setting(
            device=self.config.device,
            board=self.host.board,
            emulated=self.host.emulated,
            offer=offer,
            budget=self.config.budget,
            moment=moment,
            verdict=judge(policy, moment),
        )

    def _samples(self, plan: Plan) -> SampleCounts:
        data = self.config.data
        count, shape, _ = count_samples(data.path)
        if shape != plan.input_shape:
            raise DataError(
                f"{data.path}: samples of shape {shape}, the model takes {plan.input_shape}"
            )
        trained, held_out = holdout_sizes(count, data.holdout)
        return SampleCounts(trained=trained, held_out=held_out)

    def _held(self, offer: Offer, level: float | None) -> tuple[str, ...]:
        """The masks that spare bytes: those on offer, and the latest, as the base of a change."""
        if level is None:
            return ()
        held = self.store.held_masks()
        return tuple(digest for digest in held if digest in offer.mask_digests or digest == held[0])

    def _calibration_key(self, offer: Offer, plan: Plan) -> str:
        """Of a plan at its levels; what a stage takes that keeps everything is another matter."""
        budget = self.config.budget
        kept = "all" if sum(offer.kept[-1]) == plan.num_prunable else "some"
        how = f"batch{offer.batch_size}-keeps-{kept}-threads{budget.threads}-{budget.engine}"
        return f"{offer.plan_digest[:16]}-{__version__}-{how}"

    def _calibration(self, offer: Offer, plan: Plan) -> tuple[Calibration, str] | None:
        """What was measured, and the digest of its file."""
        path = self.store.calibration_path(self._calibration_key(offer, plan))
        try:
            text = path.read_bytes()
            found = Calibration.from_json(text)
        except (OSError, FedSparseError):
            return None
        if not found.covers(offer.plan_digest, offer.batch_size, offer.levels):
            return None
        return found, hashlib.sha256(text).hexdigest()

    def _cannot_run(self, plan: Plan) -> str:
        """Why this device has no engine for a plan; empty where it has."""
        if not plan.is_opaque:
            return ""
        if find_spec("onnxruntime") is None:
            return (
                f"'{plan.name}' is a training graph, which needs onnxruntime: "
                "pip install 'fedsparse[onnx]' on this device"
            )
        if self.config.budget.engine == "sparse":
            return f"'{plan.name}' is a training graph: set [budget] engine = \"auto\""
        return ""

    def _cost(self, plan: Plan) -> CostFunction:
        """What prices a setup: a training graph's figures are in its file."""
        path = self.store.graph_path(plan)
        if path is None:
            return engine_cost
        return functools.partial(engine_cost, graph=TrainingGraph.from_bytes(path.read_bytes()))

    def _request(self, offer: Offer, plan: Plan) -> CalibrateRequest:
        return CalibrateRequest(
            plan=str(self.store.plan_path(offer.plan_digest)),
            levels=offer.levels,
            kept=offer.kept,
            batch_size=offer.batch_size,
            output=str(self.store.calibration_path(self._calibration_key(offer, plan))),
            threads=self.config.budget.threads,
            engine=self.config.budget.engine,
            graph=str(self.store.graph_path(plan) or ""),
            memory_bytes=trainer_share(self.host, self.config.budget, rss_bytes()),
        )
