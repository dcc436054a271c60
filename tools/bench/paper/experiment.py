"""An experiment as a file: data, split, clients, cases, and what is expected of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from aggregator.job import MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.config import build, read_toml
from fedsparse.errors import ConfigError, DataError
from fedsparse.methods.method import METHODS
from fedsparse.plan.finding import find_plan
from fedsparse.wire.messages import NAME
from tools.bench.paper.case import Case, Expectation, Split
from tools.datasets.registry import find_dataset
from tools.simulation.cohort import divide_clients
from tools.simulation.spec import ENGINES

SUFFIX: Final = ".toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is compared, an experiment file.

    Attributes:
        name: the folder of its results.
        title: of its table.
        dataset: a name that `fedsparse data list` knows.
        plan: a model of the zoo, or the path of a `plan.json`; a relative one is taken from the
            folder of the experiment file.
        clients, cohort: how many there are, and how many take part in a round.
        samples: at most so many a client; None = an even share of all.
        rounds: training rounds, after stage 1.
        evaluate_every: rounds between two scores of the model.
        engine: one of `tools.simulation.spec.ENGINES`.
        training, method, values: keys of `TrainingConfig`, `MethodConfig` and `ValuesConfig`, for
            all cases.
    """

    name: str
    title: str
    dataset: str
    plan: str
    clients: int
    cohort: int
    rounds: int
    splits: tuple[Split, ...]
    cases: tuple[Case, ...]
    expectations: tuple[Expectation, ...] = ()
    samples: int | None = None
    evaluate_every: int = 10
    engine: str = "sparse"
    training: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 letters, digits, '_', '.' or '-', got '{self.name}'"
            )
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got '{self.engine}'")
        self._check_sizes()
        try:
            find_dataset(self.dataset)
            find_plan(self.plan)
            for case in self.cases:
                self._check_case(case)
        except (ConfigError, DataError) as error:
            raise ValueError(str(error)) from error
        _check_unique("splits", [f"{split.alpha:g}" for split in self.splits])
        _check_unique("cases", [case.name for case in self.cases])
        for expectation in self.expectations:
            self._check_expectation(expectation)

    def case(self, name: str) -> Case:
        """The case called `name`.

        Raises:
            ConfigError: there is none; the nearest name is given.
        """
        for case in self.cases:
            if case.name == name:
                return case
        known = [case.name for case in self.cases]
        raise ConfigError(f"the experiment '{self.name}' has no case '{name}'{_near(name, known)}")

    def method_of(self, case: Case) -> MethodConfig:
        """How a case finds sparsity: its settings over the experiment's."""
        where = f"the case '{case.name}': settings"
        table = {**self.method, **case.settings, "name": case.method}
        table["levels"] = list(case.densities)
        return build(MethodConfig, table, where=where, base=Path())

    def training_of(self, case: Case) -> TrainingConfig:
        """How a case's clients train: its keys over the experiment's."""
        where = f"the case '{case.name}': training"
        return build(TrainingConfig, {**self.training, **case.training}, where=where, base=Path())

    def values_of(self, case: Case) -> ValuesConfig:
        """How a case's values travel: its keys over the experiment's."""
        where = f"the case '{case.name}': values"
        return build(ValuesConfig, {**self.values, **case.values}, where=where, base=Path())

    def _check_sizes(self) -> None:
        for key in ("clients", "cohort", "rounds", "evaluate_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.cohort > self.clients:
            raise ValueError(f"cohort: {self.cohort} of {self.clients} clients cannot take part")
        if not self.splits or not self.cases:
            raise ValueError("an experiment needs at least one table of splits and one of cases")

    def _check_case(self, case: Case) -> None:
        for key in ("name", "levels"):
            if key in self.method:
                raise ConfigError(f"method: {key} is for the cases to say")
        method = self.method_of(case)
        self.training_of(case)
        self.values_of(case)
        self._check_shares(case)
        _, senses = METHODS[case.method]
        if senses and method.sense_devices > self.cohort:
            raise ConfigError(
                f"the case '{case.name}': sense_devices: {method.sense_devices} clients cannot do "
                f"stage 1 where the cohort is {self.cohort}"
            )
        alphas = [split.alpha for split in self.splits]
        if not set(case.alphas) <= set(alphas):
            raise ConfigError(f"the case '{case.name}': alphas must be among the splits' {alphas}")
        seeds = {seed for split in self.splits for seed in split.seeds}
        if not set(case.seeds) <= seeds:
            raise ConfigError(
                f"the case '{case.name}': seeds must be among the splits' {sorted(seeds)}"
            )

    def _check_shares(self, case: Case) -> None:
        try:
            divide_clients(self.clients, case.densities, case.shares)
        except ConfigError as error:
            raise ConfigError(f"the case '{case.name}': {error}") from error

    def _check_expectation(self, expectation: Expectation) -> None:
        where = f"the expectation '{expectation.says}'"
        try:
            levels = self.case(expectation.case).densities
            if expectation.against:
                self.case(expectation.against)
        except ConfigError as error:
            raise ValueError(f"{where}: {error}") from error
        if expectation.level is not None and expectation.level not in levels:
            raise ValueError(f"{where}: level: '{expectation.case}' has {list(levels)}")
        alphas = [split.alpha for split in self.splits]
        if not set(expectation.alphas) <= set(alphas):
            raise ValueError(f"{where}: alphas must be among the splits' {alphas}")


def experiment_names() -> tuple[str, ...]:
    """The experiments that ship with the package, sorted."""
    entries = resources.files("tools.bench.paper").iterdir()
    return tuple(sorted(one.name[: -len(SUFFIX)] for one in entries if one.name.endswith(SUFFIX)))


def load_experiment(name_or_path: str) -> Experiment:
    """Load a shipped experiment by its name, or any by the path of its `.toml` file.

    Raises:
        ConfigError: there is none (the nearest name is given), or the file is invalid.
    """
    if name_or_path.endswith(SUFFIX) or "/" in name_or_path:
        return _load(Path(name_or_path))
    known = experiment_names()
    if name_or_path not in known:
        raise ConfigError(
            f"no experiment '{name_or_path}'{_near(name_or_path, known)}; or give the path of a "
            f"{SUFFIX} file"
        )
    with resources.as_file(resources.files("tools.bench.paper") / f"{name_or_path}{SUFFIX}") as at:
        return _load(at)


def _load(path: Path) -> Experiment:
    """As `fedsparse.config.load`; the plan may be a file, or the name of a model."""
    table, base = read_toml(path), path.resolve().parent
    plan = table.get("plan")
    if isinstance(plan, str) and Path(plan).suffix == ".json":
        table["plan"] = str(base / Path(plan).expanduser())
    return build(Experiment, table, where=str(path), base=base)


def _check_unique(key: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{key}: {twice[0]} is there twice")


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(names)}"
