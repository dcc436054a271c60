"""docs/budget.md says what the code does: its settings are valid, and it names all of them."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

from edge_client.budget.correction import (
    ENOUGH,
    FASTEST,
    MAX_START_S,
    MOST_MEMORY,
    SLOWEST,
    TRAINER_START_S,
)
from edge_client.budget.policy import CLOCK_SET_SINCE, COLDEST_LIMIT, HOTTEST_LIMIT, Policy
from edge_client.config import BudgetConfig
from fedsparse.config import build

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUMENT = (Path(__file__).parents[3] / "docs" / "budget.md").read_text(encoding="utf-8")
CLIENT, POLICY = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_settings_shown_are_valid_and_all_there_are(tmp_path: Path) -> None:
    table = tomllib.loads(CLIENT)["budget"]
    build(BudgetConfig, table, where="budget", base=tmp_path)
    assert set(table) == {field.name for field in dataclasses.fields(BudgetConfig)}
    shown = {key: value for key, value in table.items() if key != "memory_mib"}
    assert dataclasses.replace(BudgetConfig(**shown)) == BudgetConfig()  # the defaults


def test_the_policy_shown_is_valid_and_has_every_rule(tmp_path: Path) -> None:
    table = tomllib.loads(POLICY)
    policy = build(Policy, table, where="policy.toml", base=tmp_path)
    for field in dataclasses.fields(Policy):
        rules = dataclasses.fields(getattr(policy, field.name))
        assert set(table[field.name]) == {rule.name for rule in rules}


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"| {FASTEST:g} to {SLOWEST:g};" in DOCUMENT
    assert f"| 1 to {MOST_MEMORY:g}:" in DOCUMENT
    assert MAX_START_S == 600
    assert f"at most 10 min; at least {TRAINER_START_S:g} s until three tasks" in DOCUMENT
    assert ENOUGH == 3
    assert f"{COLDEST_LIMIT:g} to {HOTTEST_LIMIT:g}" in DOCUMENT
    assert f"before {CLOCK_SET_SINCE}:" in DOCUMENT
