"""The models that benches run: by the names of the project's figures, or a plan of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from fedsparse.plan.zoo import PLANS
from tools.model_cli import read_plan

ALIASES: Final = {"har": "watch", "resnet": "cifar10"}  # as the figures of the runtime call them


def find_plan(name: str) -> Plan:
    """The plan of a model, or of a file.

    Raises:
        ConfigError: there is neither; the message lists the models.
        PlanError: the file is no plan.
    """
    model = ALIASES.get(name, name)
    if model in PLANS:
        return PLANS[model]()
    if Path(name).suffix == ".json":
        return read_plan(Path(name))
    known = ", ".join(sorted({*PLANS, *ALIASES}))
    raise ConfigError(f"no model '{name}': take one of {known}, or the path of a plan.json")
