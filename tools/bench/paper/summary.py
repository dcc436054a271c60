"""The short form's figures: one accuracy a method, one ratio, one consensus a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.bench.paper.experiment import Experiment
from tools.bench.paper.records import Record


def summarise(experiment: Experiment, records: Sequence[Record]) -> dict[str, Any]:
    """What `summary.json` holds, of the first run of each case.

    Returns:
        An accuracy in [0, 1] for each case's name; `bytes_ratio`, dense float32 bytes over those of
        one client of `spdst` in a round without a mask, both ways; `consensus`, a value for each
        case (see `consensus_of`). What is not run yet is None.
    """
    runs = {case.name: _first(records, case.name) for case in experiment.cases}
    levels = {case.name: case.densities[0] for case in experiment.cases}
    scores = {name: run and run.accuracy(levels[name]) for name, run in runs.items()}
    spdst = runs.get("spdst")
    exchange = spdst and spdst.exchange(levels["spdst"])
    return {
        **scores,
        "bytes_ratio": round(2 * float(spdst.result["dense_bytes"]) / sum(exchange), 2)
        if spdst and exchange
        else None,
        "consensus": {name: run and round(consensus_of(run), 4) for name, run in runs.items()},
    }


def consensus_of(run: Record) -> float:
    """The clients' consensus in the last training round in which their masks evolved.

    The mean over tensors, weighted by what the clients keep of them; 1.0 where masks never evolve:
    then all clients hold the same one.
    """
    evolved = [one["consensus"] for one in run.training if one["consensus"] is not None]
    if not evolved:
        return 1.0
    last = evolved[-1]
    products = (v * kept for v, kept in zip(last["clients"], last["kept"], strict=True))
    return float(sum(products) / sum(last["kept"]))


def _first(records: Sequence[Record], case: str) -> Record | None:
    return next((record for record in records if record.case == case), None)
