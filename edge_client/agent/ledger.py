"""What an agent remembers from one offer to the next, and learns from the tasks between.

Everything lies in the store, so that a restart forgets nothing; a damaged file is forgotten, with a
line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_client.budget.correction import Correction, Observation, observe, too_late
from edge_client.budget.decide import Decision
from edge_client.budget.document import Document, save_document
from edge_client.budget.forecast import LevelForecast
from edge_client.budget.hysteresis import Hold, kept_promise, step_down
from edge_client.store import Store
from fedsparse.durable import write_durably
from fedsparse.errors import DataError
from fedsparse.wire.messages import Stage, Task, Update

log = logging.getLogger("edge-client")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """Where a decision's forecasts came from: what their tasks take is learnt there.

    Attributes:
        path: of the corrections.
        decision: whose forecasts they were.
        emulated: whether a profile's speed was foretold: this machine's clock says nothing of it.
    """

    path: Path
    decision: Decision
    emulated: bool


class Ledger:
    """A device's memory of its decisions.

    Args:
        store: its disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.hold = _read(store.hold, Hold.from_json)

    def correction(self, path: Path, calibration: str) -> Correction:
        """What was learnt of a calibration with this digest; nothing of another one.

        Args:
            path: where it lies.
            calibration: the digest of its file.
        """
        found = _read(path, Correction.from_json)
        if found is None or found.calibration != calibration:
            return Correction(calibration=calibration)
        return found

    def decided(self, document: Document, decision: Decision | None) -> None:
        """Remember an answer, and what follows from it for the next offer."""
        if decision is not None:
            self._keep(decision.hold)
        _write(lambda: save_document(self._store.decision, document))

    def trained(self, learner: Learner, task: Task, update: Update, trainer_s: float) -> None:
        """A task ended well: its forecast is held against what it took."""
        row = learner.decision.row(task.level)
        if row is None:
            return
        trains = task.stage is not Stage.EVALUATE and not task.asks_saliency
        timed = trains and not learner.emulated
        seen = observe(
            row.foretold,
            training_s=update.train_s if timed else None,
            trainer_s=trainer_s if timed else None,
            peak_bytes=update.peak_rss_bytes,
        )
        correction = self._learn(learner, learner.decision.means.correction.after(seen))
        log.info(
            "round=%d training=%.2fs foretold=%.2fs peak=%dMiB foretold=%dMiB next_time=x%.2f "
            "next_memory=x%.2f",
            task.round_id,
            update.train_s,
            row.training_s,
            update.peak_rss_bytes >> 20,
            row.foretold.trainer_bytes >> 20,
            correction.time_factor,
            correction.memory_factor,
        )
        if self.hold is not None and self.hold.broken:
            self._keep(kept_promise(self.hold))

    def killed(self, learner: Learner, task: Task) -> None:
        """A trainer died for want of memory, though its level was said to fit."""
        row = learner.decision.row(task.level)
        if row is None:
            return
        correction = learner.decision.means.correction.killed_for_memory()
        self._learn(learner, correction)
        self._break(learner, task, "killed for memory", row)

    def late(self, learner: Learner, task: Task) -> None:
        """A trainer was ended at its deadline; no promise is broken where that came too soon."""
        row = learner.decision.row(task.level)
        if row is None:
            return
        known = learner.decision.means.correction
        seen = too_late(row.foretold, known.start_s, task.seconds_left)
        self._learn(learner, known.after(Observation() if learner.emulated else seen))
        if task.seconds_left >= row.round_s:
            self._break(learner, task, f"not done in {task.seconds_left:.0f} s", row)

    def _break(self, learner: Learner, task: Task, what: str, row: LevelForecast) -> None:
        log.error(
            "promise=broken round=%d level=%g what=%r foretold_peak=%dMiB foretold_round=%.1fs",
            task.round_id,
            task.level,
            what,
            row.peak_bytes >> 20,
            row.round_s,
        )
        if self.hold is not None:
            levels = [one.level for one in learner.decision.rows]
            broken = f"{what} at {task.level:g} in round {task.round_id}"
            self._keep(step_down(self.hold, task.level, levels, broken))

    def _learn(self, learner: Learner, correction: Correction) -> Correction:
        _write(lambda: write_durably(learner.path, correction.to_json().encode()))
        return correction

    def _keep(self, hold: Hold | None) -> None:
        if hold is not None and hold != self.hold:
            self.hold = hold
            text = hold.to_json().encode()
            _write(lambda: write_durably(self._store.hold, text))


def _write(write: Callable[[], None]) -> None:
    """A disk that is full costs what was to be remembered, not the answer that follows."""
    try:
        write()
    except OSError as error:
        log.warning("not_remembered reason=%r", str(error))


def _read(path: Path, parse: Callable[[bytes], T]) -> T | None:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, DataError) as error:
        log.warning("forgotten=%s reason=%r", path.name, str(error))
        path.unlink(missing_ok=True)
        return None
