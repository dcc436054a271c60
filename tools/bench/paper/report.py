"""The tables and verdicts of an experiment, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedsparse.durable import write_durably
from tools.bench.paper.experiment import Experiment
from tools.bench.paper.table import CostRow, LevelRow, ResultTable
from tools.bench.paper.verdicts import Verdict

NONE = "–"  # noqa: RUF001  (an en dash: no such figure)


def to_document(
    experiment: Experiment, table: ResultTable, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """For JSON; fields are those of `LevelRow`, `CostRow` and `Verdict`."""
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "dataset": experiment.dataset,
        "plan": experiment.plan,
        "clients": experiment.clients,
        "cohort": experiment.cohort,
        "rounds": experiment.rounds,
        "levels": [asdict(row) for row in table.levels],
        "costs": [asdict(row) for row in table.costs],
        "verdicts": [{**asdict(one), "verdict": one.word} for one in verdicts],
    }


def write_report(
    folder: Path, experiment: Experiment, table: ResultTable, verdicts: Sequence[Verdict]
) -> None:
    """Write `table.json` and `table.md`."""
    write_durably(folder / "table.json", as_json(experiment, table, verdicts).encode())
    write_durably(folder / "table.md", markdown(experiment, table, verdicts).encode())


def as_json(experiment: Experiment, table: ResultTable, verdicts: Sequence[Verdict]) -> str:
    """The content of `table.json`."""
    return json.dumps(to_document(experiment, table, verdicts), indent=2) + "\n"


def markdown(experiment: Experiment, table: ResultTable, verdicts: Sequence[Verdict]) -> str:
    """Three tables: accuracy by level, cost by case, and what was expected."""
    parts = [
        f"# {experiment.title}",
        f"{experiment.dataset}, model {experiment.plan}, {experiment.clients} clients, "
        f"{experiment.cohort} a round, {experiment.rounds} rounds, engine {experiment.engine}.",
    ]
    if not table.levels:
        return "\n\n".join([*parts, "No run is finished yet."]) + "\n"
    parts += [_levels(table.levels), _costs(table.costs)]
    if verdicts:
        parts.append(_verdicts(verdicts))
    return "\n\n".join(parts) + "\n"


def _levels(rows: Sequence[LevelRow]) -> str:
    head = (
        "| alpha | case | density | accuracy | seeds | to dense | up / down | "
        "dense / up, down | both |\n|--:|:--|--:|--:|--:|--:|--:|--:|--:|"
    )
    note = (
        "Accuracy at the end, mean ± sample deviation over the seeds; to dense: mean over the "
        "same seeds. Bytes of one client a training round in which it moves no mask, as whole MQTT "
        "packets, and how many times more dense float32 values are."
    )
    lines = [
        f"| {row.alpha:g} | {row.case} | {row.level:g} | {_spread(row)} | {len(row.seeds)} | "
        f"{_number(row.to_dense, '+.2f')} | {_kb(row.up_bytes)} / {_kb(row.down_bytes)} kB | "
        f"{_number(row.up_ratio, '.1f')}, {_number(row.down_ratio, '.1f')} | "
        f"{_number(row.ratio, '.1f')} |"
        for row in rows
    ]
    return "\n".join(["## Accuracy and bytes", "", note, "", head, *lines])


def _costs(rows: Sequence[CostRow]) -> str:
    head = (
        "| alpha | case | MB of the job | dense / it | masks, MB | masks a client's round | "
        "multiply-adds | dense / it | training |\n|--:|:--|--:|--:|--:|--:|--:|--:|--:|"
    )
    note = (
        "Whole jobs: all clients, both ways, masks and stage 1 included, against dense float32 "
        "values in as many training rounds; multiply-adds against those of dense in as many. "
        "Multiply-adds are counted by the runtime; training is the process time of all clients' "
        "training loops."
    )
    lines = [
        f"| {row.alpha:g} | {row.case} | {row.job_bytes / 1e6:,.1f} | {row.job_ratio:.1f} | "
        f"{row.mask_bytes / 1e6:,.1f} | {row.mask_bytes_a_client_round / 1e3:,.2f} kB | "
        f"{row.multiply_adds:.3g} | {_number(row.compute_ratio, '.1f')} | {row.train_s:,.0f} s |"
        for row in rows
    ]
    return "\n".join(["## Cost of the whole job", "", note, "", head, *lines])


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    head = "| alpha | expected | limit | measured | seeds | verdict |\n|--:|:--|:--|--:|--:|:--|"
    lines = [
        f"| {one.alpha:g} | {one.says} | {one.limit} | {_number(one.figure, '.2f')} | {one.runs} | "
        f"{one.word} |"
        for one in verdicts
    ]
    return "\n".join(["## Expected, and measured", "", head, *lines])


def _spread(row: LevelRow) -> str:
    deviation = f" ± {row.deviation:.2f}" if len(row.seeds) > 1 else ""
    return f"{row.accuracy:.2f}{deviation} %"


def _kb(value: float | None) -> str:
    return NONE if value is None else f"{value / 1e3:,.1f}"


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
