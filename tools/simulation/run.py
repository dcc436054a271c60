"""One simulated training, from its first round to its result; a killed one goes on.

The real aggregator drives the real state machines over an in-memory broker. While it would wait for
the network, the virtual clients act, and workers train for them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aggregator.open_round import MemoryJobs
from aggregator.rounds import Aggregator
from edge_client.bench.work import step_work
from fedsparse.durable import write_durably
from fedsparse.errors import DataError
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import pack
from fedsparse.transport.base import Event
from fedsparse.transport.channel import Channel
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.types import BoolArray
from fedsparse.wire.messages import Offer
from fedsparse.wire.topics import Topics
from tools.simulation.client import Site
from tools.simulation.cohort import Population
from tools.simulation.data import Split, open_split
from tools.simulation.fleet import Fleet
from tools.simulation.pool import Pool
from tools.simulation.record import Recorder, read_records
from tools.simulation.scoring import SimulatedScoring
from tools.simulation.snapshot import Workspace
from tools.simulation.spec import RESULT, RunSpec, SimulationError, claim

SNAPSHOT_S: Final = 20.0
ROUND_S: Final = 60.0  # virtual seconds between rounds: transfers that are done are forgotten
PATIENCE: Final = 1_000  # polls in a row in which nothing happens

Progress = Callable[[dict[str, Any]], None]


class Clock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class GatewayTransport(MemoryTransport):
    """The aggregator's connection: where it would wait, the clients act."""

    def __init__(self, broker: MemoryBroker, clock: Clock) -> None:
        super().__init__(broker, client_id="gateway")
        self.act: Callable[[], bool] = lambda: False
        self._clock = clock
        self._idle = 0

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        """The next event, after the clients have acted if need be."""
        event = super().receive(timeout_s, hold=hold)
        while event is None and self.act():
            event = super().receive(timeout_s, hold=hold)
        self._idle = 0 if event is not None else self._idle + 1
        if event is None:
            self._clock.now_s += max(timeout_s, 0.01)
        if self._idle > PATIENCE:
            raise SimulationError("aggregator and clients wait for each other: this is a bug")
        return event


def simulate(
    spec: RunSpec,
    folder: Path,
    *,
    data: Path,
    workers: int = 1,
    snapshot_s: float = SNAPSHOT_S,
    progress: Progress = lambda record: None,
) -> dict[str, Any]:
    """Run or resume `spec` in `folder`; the same seed gives the same result on any `workers`.

    Args:
        spec: what is run.
        folder: holds `spec.json`, `rounds.jsonl`, and at the end `result.json`.
        data: folder of prepared splits, shared by runs.
        workers: processes that train.
        snapshot_s: a snapshot is taken after a round that ends so long after the last one.
        progress: is told of each record, and of those that are there already.

    Returns:
        What is in `result.json`.

    Raises:
        ConfigError: the folder is that of another run, or its snapshot is damaged.
        DataError: the data cannot be had, or their files are damaged.
        SimulationError: training failed on all clients of a round, or a worker was lost.
    """
    claim(folder, spec)
    done = folder / RESULT
    if done.exists():
        result: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return result
    split = open_split(spec, data)
    plan = spec.load_plan()
    try:
        with Pool(plan, spec.engine, workers) as pool:
            run = _Run(spec, plan, folder, split, pool, snapshot_s, progress)
            run.finish()
            result = run.result()
    except DataError as error:
        raise split.damaged(error) from error
    write_durably(done, (json.dumps(result, indent=2) + "\n").encode())
    Workspace.of(folder).clear()
    return result


def model_digest(state: ServerState) -> str:
    """SHA-256 of weights and masks, hexadecimal: equal for models that are equal to the bit."""
    found = hashlib.sha256(state.weights.prunable.tobytes() + state.weights.dense.tobytes())
    for level in sorted(state.masks):
        found.update(pack(state.masks[level]))
    return found.hexdigest()


class _Run:
    """The parts of a simulation, put together from a snapshot or from nothing."""

    def __init__(
        self,
        spec: RunSpec,
        plan: Plan,
        folder: Path,
        split: Split,
        pool: Pool,
        snapshot_s: float,
        progress: Progress,
    ) -> None:
        self._pause_s = snapshot_s
        self._spec, self._plan = spec, plan
        self._workspace = Workspace.of(folder)
        state = self._workspace.restore()
        live = self._workspace.live
        (live / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        self._clock = Clock()
        broker, topics = MemoryBroker(), Topics("simulation")
        transport = GatewayTransport(broker, self._clock)
        channel = Channel(transport, topics, spool=live / "incoming", clock=self._clock)
        channel.start()
        channel.poll(0.0)  # that it is connected: the first offer is not to be sent twice
        self._fleet = Fleet(
            Site(
                plan=plan,
                broker=broker,
                topics=topics,
                masks=self._workspace.masks,
                residuals=self._workspace.residuals,
                incoming=live / "incoming",
                clock=self._clock,
            ),
            Population.enlist(spec.clients, spec.method.levels, spec.shares, spec.seed),
            spec.cohort,
            split.clients,
            pool,
            self._between_rounds,
        )
        self._wall_s, self._began_s = 0.0, time.monotonic()
        self._recorder = Recorder(
            self._workspace.records, self._fleet.take_work, self._server_mask, progress
        )
        self._resume(state, progress)
        self._aggregator = Aggregator(
            spec.job(live / "plan.json", live),
            plan,
            channel,
            self._recorder,
            MemoryJobs(),
            scoring=SimulatedScoring(
                plan, split.test, pool, every=spec.evaluate_every, last=spec.rounds
            ),
            clock=self._clock,
            calendar=self._clock,
        )
        transport.act = self._fleet.act
        self._saved_s = time.monotonic()

    def finish(self) -> None:
        """Work until all rounds are over."""
        self._aggregator.run()

    def result(self) -> dict[str, Any]:
        """The content of `result.json`."""
        state = self._aggregator.model.state
        dense = [tensor.size for tensor in self._plan.prunable]
        scores = self._aggregator.scores.fields()
        return {
            **scores,
            "rounds": self._spec.rounds,
            "dense_bytes": 4 * (self._plan.num_prunable + self._plan.num_dense),
            "dense_multiply_adds": step_work(self._plan, dense, 1).multiply_adds,
            "num_prunable": self._plan.num_prunable,
            "num_dense": self._plan.num_dense,
            "layers": [tensor.name for tensor in self._plan.prunable],
            "kept": {
                f"{level:g}": list(counts_of(self._plan, mask))
                for level, mask in state.masks.items()
            },
            "model_digest": model_digest(state),
            "wall_s": round(self._wall_s + time.monotonic() - self._began_s, 1),
        }

    def _server_mask(self) -> BoolArray:
        state = self._aggregator.model.state
        return state.masks[state.d_max]

    def _resume(self, state: dict[str, Any] | None, progress: Progress) -> None:
        """Bring clients and records to the moment of the snapshot."""
        records = self._workspace.records
        if state is None:
            records.write_bytes(b"")
        kept = read_records(records)
        for record in kept:
            progress(record)
        if state is not None:
            self._fleet.restore(state["fleet"])
            self._recorder.restore(state["closed"])
            self._wall_s = state["wall_s"]

    def _between_rounds(self, offer: Offer) -> None:
        """A new round is offered, and nobody works on it yet."""
        self._clock.now_s += ROUND_S
        now_s = time.monotonic()
        if now_s < self._saved_s + self._pause_s or not self._workspace.has_checkpoint:
            return
        state = {
            "closed": self._recorder.closed,
            "fleet": self._fleet.to_document(),
            "wall_s": self._wall_s + now_s - self._began_s,
        }
        self._workspace.save(state, self._fleet.held_masks())
        self._saved_s = time.monotonic()
