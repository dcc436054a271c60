"""From an offer to an answer: plan, calibration, samples, budget."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from edge_client.budget import CostFunction, Decision, decide
from edge_client.calibration import Calibration
from edge_client.config import ClientConfig
from edge_client.data.header import count_samples
from edge_client.data.holdout import holdout_sizes
from edge_client.host import Host
from edge_client.memory import rss_bytes
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
    """What the device says to an offer, and how it would train each of the offer's levels."""

    ready: Ready
    setups: Mapping[float, EngineSetup] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Answers offers for one device."""

    config: ClientConfig
    store: Store
    host: Host

    def choose(self, offer: Offer) -> Answer | PlanMissing | CalibrationMissing:
        """The answer to an offer, or what is to be had before there can be one.

        Samples that do not fit the plan are this device's own fault: it declines, and says why.
        """
        plan = self.store.load_plan(offer.plan_digest)
        if plan is None:
            return PlanMissing()
        if reason := self._cannot_run(plan):
            return self.decline(offer, reason)
        try:
            samples = self._samples(plan)
        except FedSparseError as error:
            return self.decline(offer, str(error))
        calibration = self._calibration(offer, plan)
        if calibration is None:
            return CalibrationMissing(request=self._request(offer, plan))
        try:
            decision = decide(
                offer,
                plan,
                samples,
                self.host,
                calibration,
                self.config.budget,
                rss_bytes(),
                cost=self._cost(plan),
            )
        except EngineError as error:  # an offer that contradicts its plan
            return self.decline(offer, str(error))
        return self._answer(offer, decision, samples.trained)

    def _answer(self, offer: Offer, decision: Decision, num_examples: int) -> Answer:
        forecast = decision.chosen or decision.rows[-1]
        ready = Ready(
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
            memory_budget_bytes=decision.memory_budget_bytes,
            predicted_round_s=forecast.round_s,
        )
        return Answer(ready=ready, setups=decision.setups)

    def decline(self, offer: Offer, reason: str) -> Answer:
        """The answer of a device that cannot take part, and why."""
        ready = Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=None,
            board=self.host.board,
            reason=reason[:MAX_TEXT],
        )
        return Answer(ready=ready)

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

    def _calibration_path(self, offer: Offer, plan: Plan) -> Path:
        """Of a plan at its levels; what a stage takes that keeps everything is another matter."""
        budget = self.config.budget
        kept = "all" if sum(offer.kept[-1]) == plan.num_prunable else "some"
        how = f"batch{offer.batch_size}-keeps-{kept}-threads{budget.threads}-{budget.engine}"
        key = f"{offer.plan_digest[:16]}-{__version__}-{how}"
        return self.store.calibration_path(key)

    def _calibration(self, offer: Offer, plan: Plan) -> Calibration | None:
        try:
            found = Calibration.from_json(self._calibration_path(offer, plan).read_bytes())
        except (OSError, FedSparseError):
            return None
        return found if found.covers(offer.plan_digest, offer.batch_size, offer.levels) else None

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
            output=str(self._calibration_path(offer, plan)),
            threads=self.config.budget.threads,
            engine=self.config.budget.engine,
            graph=str(self.store.graph_path(plan) or ""),
        )
