"""What a run leaves: `summary.json`, `timeline.html` and `report.html`, also where it broke off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_client.emulation.report import Resource
from tools.demo.report import write_report
from tools.demo.state import RunState
from tools.demo.summary import RunFacts, summarise
from tools.emulate.actor import Actor
from tools.emulate.director import Director
from tools.emulate.kept_broker import KeptBroker
from tools.emulate.script import Occurrence, Script
from tools.emulate.setup import Setup
from tools.emulate.timeline_page import write_timeline

SUMMARY: Final = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended; where it broke off, why."""

    finished: bool = True
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Record:
    """Everything that the results are written from; filled while the run goes on."""

    setup: Setup
    state: RunState
    script: Script
    broker: KeptBroker | None = None
    director: Director | None = None
    actors: Mapping[str, Actor] = field(default_factory=dict)
    wall_s: float = 0.0
    ending: Ending = field(default_factory=Ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The results of a run."""

    summary: dict[str, Any]
    summary_file: Path
    timeline_file: Path


def write_outcome(record: Record) -> Outcome:
    """Write the results into the output folder."""
    output = record.setup.output
    summary = summary_of(record)
    summary_file = output / SUMMARY
    summary_file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if record.ending.finished:
        write_report(output)
    return Outcome(summary=summary, summary_file=summary_file, timeline_file=write_timeline(output))


def summary_of(record: Record) -> dict[str, Any]:
    """The summary of a run, ready for JSON: the demo's keys, and `emulation`."""
    setup = record.setup
    facts = RunFacts(
        dataset=setup.fleet.job.dataset,
        broker=record.broker.name if record.broker else "none",
        deadline_s=setup.fleet.job.deadline_s,
        wall_s=record.wall_s,
        profiles={device.name: device.board.name for device in setup.devices},
        notes={device.name: device.group.name for device in setup.devices},
    )
    return {**summarise(record.state, facts), "emulation": _emulation(record)}


def _emulation(record: Record) -> dict[str, Any]:
    setup, pace = record.setup, record.setup.pace
    speed = setup.machine.speed
    return {
        "finished": record.ending.finished,
        "ended_because": record.ending.reason,
        "fleet": setup.fleet.name,
        "title": setup.fleet.title,
        "scenario": setup.scenario.name if setup.scenario else None,
        "seed": setup.fleet.seed,
        "figures": setup.fleet.figures,
        "time_scale": pace.scale.factor,
        "time_scale_why": pace.why,
        "host": {
            "processors": setup.machine.processors,
            "processors_of_the_fleet": pace.processors,
            "multiply_adds_per_s": speed.multiply_adds_per_s,
            "basis": speed.basis,
        },
        "restarts": {
            "broker": record.broker.restarts if record.broker else 0,
            "aggregator": record.director.restarts if record.director else 0,
        },
        "rounds": _assignments(record.state),
        "devices": [_device(actor) for actor in record.actors.values()],
        "did_not_happen": [_missed(one) for one in record.script.missed()],
    }


def _assignments(state: RunState) -> list[dict[str, Any]]:
    """Who was to train at which level, by round."""
    return [
        {"round": one.round_id, "stage": one.stage, "levels": dict(sorted(one.levels.items()))}
        for one in state.rounds
    ]


def _device(actor: Actor) -> dict[str, Any]:
    """How a device was limited, what its limits were scaled from, and what it used."""
    report = actor.report()
    limits = report.to_document() if report else {}
    return {
        "id": actor.name,
        "group": actor.device.group.name,
        "board": actor.device.board.name,
        "figures": dict(actor.device.figures()),
        "limits": {one.value: limits[one.value] for one in Resource if one.value in limits},
        "store": actor.disk_text,
        "usage": actor.usage(),
        "client_ended": actor.crashes,
        "limits_lost": actor.limits_lost,
    }


def _missed(one: Occurrence) -> dict[str, Any]:
    happening = one.happening
    why = "the job ended first"
    if happening.round is not None:
        why += ", or the device had no task in that round"
    return {
        "device": one.device,
        "kind": happening.kind,
        "round": happening.round,
        "at_s": happening.at_s,
        "why": one.refusal or why,
    }
