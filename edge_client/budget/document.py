"""A decision as a document: what `edge-client explain` shows, and a program may read.

`decision.json` in the device's store holds the last one. Sizes are bytes, times seconds; what is
unknown is null. docs/budget.md lists the keys.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.budget.decide import Decision
from edge_client.budget.forecast import LevelForecast, Means
from edge_client.budget.hysteresis import Hold
from edge_client.budget.policy import Moment, Verdict
from edge_client.config import BudgetConfig
from fedsparse.durable import write_durably
from fedsparse.errors import DataError
from fedsparse.wire.messages import Offer

VERSION: Final = 1
Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Whose decision it is, and of what.

    Attributes:
        board: what the device is, or stands for.
        moment: what the policy was held against.
        verdict: what it said.
    """

    device: str
    board: str
    emulated: bool
    offer: Offer
    budget: BudgetConfig
    moment: Moment
    verdict: Verdict


def describe(setting: Setting, reason: str, decision: Decision | None = None) -> Document:
    """The document of a decision; without one, of an offer that was declined before a forecast."""
    offer, level = setting.offer, decision.level if decision is not None else None
    return {
        "version": VERSION,
        "decided": setting.moment.now.isoformat(timespec="seconds"),
        "device": setting.device,
        "board": setting.board,
        "emulated": setting.emulated,
        "offer": {
            "job": offer.job,
            "round": offer.round_id,
            "attempt": offer.attempt,
            "stage": offer.stage.value,
            "plan_digest": offer.plan_digest,
            "levels": list(offer.levels),
            "batch_size": offer.batch_size,
            "epochs": offer.epochs,
            "deadline_s": offer.seconds_left,
        },
        "level": level,
        "reason": reason,
        "rows": [_row(row) for row in decision.rows] if decision is not None else [],
        "means": _means(decision.means) if decision is not None else None,
        "budget": asdict(setting.budget),
        "heat": _heat(setting.moment),
        "power": _power(setting.moment),
        "policy": {
            "allows": setting.verdict.allows,
            "rulings": [asdict(ruling) for ruling in setting.verdict.rulings],
        },
        "held": _held(decision.hold) if decision is not None and decision.hold else None,
    }


def save_document(path: Path, document: Document) -> None:
    """Replace the last decision."""
    write_durably(path, json.dumps(document).encode())


def read_document(path: Path) -> Document | None:
    """The last decision; None where there is none yet.

    Raises:
        DataError: the file is something else.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
    return dict(document)


def damaged(path: Path, error: Exception) -> DataError:
    """What to raise of a document that cannot be read."""
    return DataError(f"{path}: not a decision: {error!r}; the next offer writes it anew")


def _row(row: LevelForecast) -> Document:
    return {
        "level": row.level,
        "keeps_all": row.keeps_all,
        "engine": row.setup.engine,
        "threads": row.setup.threads,
        "micro_batch": row.setup.micro_batch,
        "dense_layers": list(row.setup.dense_layers),
        "peak_bytes": row.peak_bytes,
        "training_s": row.training_s,
        "transfer_s": row.transfer_s,
        "round_s": row.round_s,
        "fits_memory": row.fits_memory,
        "fits_deadline": row.fits_deadline,
        "spare": row.spare,
    }


def _means(means: Means) -> Document:
    correction = means.correction
    return {
        "memory_bytes": means.memory_bytes,
        "available_bytes": means.available_bytes,
        "memory_source": means.memory_source,
        "memory_is_estimated": means.memory_is_estimated,
        "agent_bytes": means.agent_bytes,
        "deadline_s": means.deadline_s,
        "speed_basis": means.speed.basis,
        "link": asdict(means.link),
        "correction": {
            "time_factor": correction.time_factor,
            "memory_factor": correction.memory_factor,
            "start_s": correction.start_s,
            "tasks": len(correction.observations),
        },
    }


def _heat(moment: Moment) -> Document:
    heat = moment.heat
    return {
        "celsius": heat.celsius,
        "zone": heat.zone,
        "throttled": heat.throttled,
        "reasons": list(heat.reasons),
    }


def _power(moment: Moment) -> Document:
    return {"source": moment.power.source, "battery_percent": moment.power.battery_percent}


def _held(hold: Hold) -> Document:
    return {
        "level": hold.level,
        "rising": hold.rising or None,
        "offers": hold.offers,
        "broken": hold.broken,
    }
