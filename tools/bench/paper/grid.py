"""The runs of an experiment: splits x seeds x cases; and the folder that holds them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from fedsparse.plan.finding import find_plan
from tools.bench.paper.case import Case
from tools.bench.paper.experiment import Experiment
from tools.bench.paper.records import Record, read_record
from tools.simulation.spec import FORMAT, RESULT, RunSpec, differences

FINGERPRINT: Final = "experiment.json"
_KEYS: Final = ("name", "dataset", "plan", "clients", "cohort", "samples", "engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the grid, and where it lives."""

    case: str
    alpha: float
    seed: int
    spec: RunSpec
    folder: Path

    @property
    def name(self) -> str:
        """In progress lines and as the name of its folder."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT).is_file()

    def record(self) -> Record | None:
        """What it left; None where it is not finished."""
        return read_record(self.folder, case=self.case, alpha=self.alpha, seed=self.seed)


def grid(experiment: Experiment, folder: Path, only: Collection[str] = ()) -> tuple[Run, ...]:
    """Every run, a seed of all cases before the next seed, so that cases can be compared early.

    Args:
        experiment: what is run.
        folder: of the experiment; a run is in `runs/<case>-a<alpha>-s<seed>` of it.
        only: names of cases; empty = all.

    Raises:
        ConfigError: `only` names a case that there is not.
    """
    wanted = {experiment.case(name).name for name in only}
    return tuple(
        Run(
            case=case.name,
            alpha=split.alpha,
            seed=seed,
            spec=_spec(experiment, case, split.alpha, seed),
            folder=folder / "runs" / f"{case.name}-a{split.alpha:g}-s{seed}",
        )
        for split in experiment.splits
        for seed in split.seeds
        for case in experiment.cases
        if (not wanted or case.name in wanted)
        and (not case.alphas or split.alpha in case.alphas)
        and (not case.seeds or seed in case.seeds)
    )


def finished_records(runs: Sequence[Run]) -> list[Record]:
    """What the finished runs left, in the order of the grid."""
    return [record for run in runs if (record := run.record()) is not None]


def check_folder(folder: Path, experiment: Experiment) -> None:
    """See that the folder is the experiment's, or nobody's; cases and seeds may be added later.

    Raises:
        ConfigError: it holds another experiment, or something else.
    """
    path = folder / FINGERPRINT
    if is_claimed(folder):
        if differing := differences(_read(path), _fingerprint(experiment)):
            raise ConfigError(
                f"{folder} holds another experiment ({'; '.join(differing)}): take another "
                "--output, or move the folder away"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty and holds no experiment; take another --output, or empty it"
        )


def claim_folder(folder: Path, experiment: Experiment) -> None:
    """Mark a folder that `check_folder` found fit as the experiment's, if it is not marked yet."""
    if not is_claimed(folder):
        text = json.dumps(_fingerprint(experiment), indent=2) + "\n"
        write_durably(folder / FINGERPRINT, text.encode())


def is_claimed(folder: Path) -> bool:
    """Whether the folder is marked as an experiment's."""
    return (folder / FINGERPRINT).is_file()


def _fingerprint(experiment: Experiment) -> dict[str, Any]:
    keys = {key: getattr(experiment, key) for key in _KEYS}
    return {"format": FORMAT, **keys, "plan_digest": find_plan(experiment.plan).digest}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error}); take another --output") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected a table, got {found!r}; take another --output")
    return found


def _spec(experiment: Experiment, case: Case, alpha: float, seed: int) -> RunSpec:
    return RunSpec(
        dataset=experiment.dataset,
        plan=experiment.plan,
        clients=experiment.clients,
        cohort=experiment.cohort,
        alpha=alpha,
        samples=experiment.samples,
        method=experiment.method_of(case),
        training=experiment.training_of(case),
        values=experiment.values_of(case),
        shares=case.shares,
        rounds=case.rounds or experiment.rounds,
        seed=seed,
        evaluate_every=experiment.evaluate_every,
        engine=experiment.engine,
    )
