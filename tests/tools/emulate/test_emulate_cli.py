"""The command line, and the files that ship with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsparse.errors import ConfigError
from tools.cli import app
from tools.emulate.fleet_file import load_fleet
from tools.emulate.scenario_file import load_scenario
from tools.emulate.shipped import FLEETS, SCENARIOS, found_file, shipped

WRITTEN_FOR = {"mishaps": "trio", "bad-day": "house", "rush-hour": "street"}


def test_every_fleet_that_ships_is_valid_and_says_what_it_is() -> None:
    for name, title in shipped(FLEETS).items():
        with found_file(FLEETS, name) as path:
            assert load_fleet(path).name == name
        assert title


def test_every_scenario_that_ships_fits_the_fleet_that_it_is_for() -> None:
    assert set(shipped(SCENARIOS)) == set(WRITTEN_FOR)
    for name, fleet_name in WRITTEN_FOR.items():
        with found_file(FLEETS, fleet_name) as path:
            fleet = load_fleet(path)
        with found_file(SCENARIOS, name) as path:
            assert load_scenario(path, fleet).name == name


def test_an_unknown_fleet_has_near_names() -> None:
    said = r"no fleet 'hose' ships .*; did you mean 'house'\?"
    with pytest.raises(ConfigError, match=said), found_file(FLEETS, "hose"):
        pass


def test_the_list_names_fleets_and_scenarios() -> None:
    result = CliRunner().invoke(app, ["emulate", "--list"])
    assert result.exit_code == 0
    for name in (*shipped(FLEETS), *WRITTEN_FOR):
        assert name in result.stdout


def test_a_fleet_is_to_be_given() -> None:
    result = CliRunner().invoke(app, ["emulate"])
    assert result.exit_code == 2
    assert "--list" in result.output


def test_a_wrong_option_is_no_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["emulate", "--fleet", "trio", "--time-scale", "0"])
    assert isinstance(result.exception, ConfigError)
    assert "time_scale must be" in str(result.exception)
