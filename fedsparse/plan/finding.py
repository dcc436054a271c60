"""Plans by name: a model of the zoo, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedsparse.errors import ConfigError, FedSparseError
from fedsparse.plan.plan import Plan
from fedsparse.plan.zoo import LARGE_PLANS, PLANS

ALIASES: Final = {"har": "watch", "resnet": "cifar10"}  # as the figures of the runtime call them


def find_plan(name: str) -> Plan:
    """The plan of a model, or of a file whose name ends in `.json`.

    Raises:
        ConfigError: there is neither; the message lists the models.
        PlanError: the file is no plan.
    """
    model = ALIASES.get(name, name)
    models = PLANS | LARGE_PLANS
    if model in models:
        return models[model]()
    if Path(name).suffix == ".json":
        return read_plan(Path(name))
    known = ", ".join(sorted({*models, *ALIASES}))
    raise ConfigError(f"no model '{name}': take one of {known}, or the path of a plan.json")


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        ConfigError: the file cannot be read.
        PlanError: it is not a plan; the message names the file.
    """
    try:
        return Plan.from_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except FedSparseError as error:
        raise type(error)(f"{path}: {error}") from error
