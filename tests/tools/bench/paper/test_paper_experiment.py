"""Experiment files: what ships is sound, and what is wrong is named with file and key."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
from paper_runs import EXPERIMENT, tiny, write_experiment

from aggregator.job import MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.errors import ConfigError
from fedsparse.plan.finding import find_plan
from tools.bench.paper.case import Case, Expectation, Split
from tools.bench.paper.experiment import Experiment, experiment_names, load_experiment

DOCUMENT: Final = Path(__file__).parents[4] / "docs/experiments.md"
SHIPPED = (
    "cifar10",
    "cifar10_resnet18",
    "mnist",
    "mnist_hetero",
    "mnist_softmax",
    "mnist_values",
    "quick",
    "watch",
)


def test_the_experiments_that_ship_are_known() -> None:
    assert experiment_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_experiment_that_ships_can_be_run_and_expects_something(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.name == name
    assert experiment.expectations
    for case in experiment.cases:
        assert experiment.method_of(case).levels == case.densities
        assert experiment.training_of(case).learning_rate > 0


def test_a_case_overrides_the_settings_of_all(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    dense, spdst, jmwst = experiment.cases
    assert experiment.training_of(dense).learning_rate == 0.05
    assert experiment.training_of(spdst).learning_rate == 0.1
    assert {experiment.training_of(case).batch_size for case in experiment.cases} == {16}
    assert [experiment.method_of(case).r_int for case in (spdst, jmwst)] == [5, 2]
    assert [case.densities for case in experiment.cases] == [(1.0,), (0.05,), (0.2, 0.1)]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("clients = 6", "clinets = 6", "unknown key 'clinets'; did you mean 'clients'"),
        ("clients = 6", "clients = 0", "clients must be at least 1, got 0"),
        ("cohort = 2", "cohort = 7", "cohort: 7 of 6 clients cannot take part"),
        ("rounds = 4", "rounds = 0", "rounds must be at least 1"),
        ("rounds = 4", "rounds = 4\nsamples = 0", "samples must be at least 1"),
        ('dataset = "digits"', 'dataset = "digit"', "did you mean 'digits'"),
        ('plan = "digits"', 'plan = "digit"', "no model 'digit'"),
        ("rounds = 4", 'rounds = 4\nengine = "tourch"', "engine must be one of sparse, torch"),
        ("batch_size", "batchsize", "training: unknown key 'batchsize'; did you mean 'batch_size'"),
        ("sense_devices = 2", "sense_device = 2", "settings: unknown key 'sense_device'"),
        ("sense_devices = 2", "sense_devices = 3", "case 'spdst': sense_devices: 3 .* is 2"),
        ("sense_devices = 2", "sense_epochs = 10001", "sense_epochs must be at most 10000"),
        ("batch_size = 16", "epochs = 10001", "case 'dense': training: epochs must be 1 to 10000"),
        ("learning_rate = 0.05", "learning_rate = 1e300", "'dense': training: .* below 1e[+]15"),
        ("batch_size = 16", "weight_decay = 1e15", "'dense': training: .* must be below 1e[+]15"),
        ("seeds = [0, 1]", "seeds = [0, 2147483648]", r"splits: seeds must be 0 to 2\*\*31 - 1"),
        ("seeds = [0, 1]", "seeds = [-1]", r"splits: seeds must be 0 to 2\*\*31 - 1, got \[-1\]"),
        ("levels = [0.2, 0.1]", "levels = [0.2, 0.19999999]", "'jmwst'.*differ in six digits"),
        ('plan = "digits"', 'plan = "no/plan.json"', "HERE/no/plan.json: cannot be read"),
        ("sense_devices = 2", "levels = [0.1]", "method: levels is for the cases to say"),
        ("alpha = 0.1", "alpha = 0.0", "splits: alpha must be 0.001 to 1000000, got 0"),
        ("alpha = 0.1", "alpha = 1000", "splits: 1000 is there twice"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "splits: seeds must be different numbers"),
        ('name = "spdst"', 'name = "a/b"', "cases: name must be 1 to 64"),
        ('name = "spdst"', 'name = "dense"', "cases: dense is there twice"),
        ('method = "spdst"', 'method = "spds"', "the case 'spdst': method must be one of dense"),
        ("density = 0.05", "density = 1.5", r"case 'spdst'.*in \(0, 1\], got \[1.5\]"),
        ("density = 0.05", "density = 0.0", r"case 'spdst'.*in \(0, 1\], got \[0.0\]"),
        ("density = 0.05", "", "all but dense need density or levels"),
        ("density = 0.05", "density = 0.05\nlevels = [0.1]", "density is short for one level"),
        ("levels = [0.2, 0.1]", "levels = [0.1, 0.2]", "the case 'jmwst'.*levels must decrease"),
        ("shares = [1, 1]", "shares = [1]", "shares must be a positive number for each level"),
        ("shares = [1, 1]", "shares = [99, 1]", r"'jmwst'.* of 6 clients leave none .* 0\.1:"),
        ("r_int = 2", "r_itn = 2", "case 'jmwst': settings: unknown key 'r_itn'.*'r_int'"),
        ("r_int = 2", "levels = [0.1]", "settings: levels is a key of the case itself"),
        ("learning_rate = 0.05", "learning_rat = 0.05", "'dense': training: unknown key"),
        ("alphas = [1000]", "values = { up = 'i9' }", "'jmwst': values: up must be one of f32"),
        ("alphas = [1000]", "alphas = [1]", "the case 'jmwst': alphas must be among"),
        ("alphas = [1000]\nseeds = [0]", "seeds = [5]", "the case 'jmwst': seeds must be among"),
        ('case = "spdst"', 'case = "spdts"', "no case 'spdts'; did you mean 'spdst'"),
        ('against = "dense"', 'against = "denser"', "no case 'denser'; did you mean 'dense'"),
        ('against = "dense"', "", "need the key against"),
        ("at_least = -1.0", "", "has no limit"),
        ("at_least = -1.0", "at_least = -1.0\nlevel = 0.1", r"level: 'spdst' has \[0.05\]"),
        ("at_least = -1.0", "at_least = -1.0\nalphas = [2]", "alphas must be among the splits'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert EXPERIMENT.count(old) >= 1
    path = write_experiment(tmp_path, EXPERIMENT.replace(old, new, 1))
    complaint = complaint.replace("HERE", re.escape(str(tmp_path)))
    with pytest.raises(ConfigError, match=f"tiny.toml.*{complaint}"):
        load_experiment(str(path))


def test_the_plan_may_be_a_file_beside_the_experiment(tmp_path: Path) -> None:
    plan = tmp_path / "models/mine.json"
    plan.parent.mkdir()
    plan.write_text(find_plan("digits").to_json(), encoding="utf-8")
    text = EXPERIMENT.replace('plan = "digits"', 'plan = "models/mine.json"')
    assert tiny(tmp_path, text).plan == str(plan)


def test_more_clients_than_a_cohort_are_refused_for_stage_1_alone(tmp_path: Path) -> None:
    head, _, rest = EXPERIMENT.partition('[[cases]]\nname = "spdst"')
    _, _, expectations = rest.partition("[[expectations]]")
    text = f"{head}[[expectations]]{expectations}".replace("sense_devices = 2", "sense_devices = 3")
    text = text.replace('case = "spdst"', 'case = "dense"')
    assert [case.name for case in tiny(tmp_path, text).cases] == ["dense"]


@pytest.mark.parametrize(
    "kind",
    [Experiment, Split, Case, Expectation, MethodConfig, TrainingConfig, ValuesConfig],
)
def test_every_key_is_in_the_tables_of_the_document(kind: type[Any]) -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").partition("### All keys")[2].splitlines()
    keys = {key for line in lines if "|" in line for key in re.findall(r"`\[?(\w+)", line)}
    assert {field.name for field in fields(kind)} <= keys | {"splits", "cases", "expectations"}


def test_an_unknown_experiment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no experiment 'mnits'; did you mean 'mnist'"):
        load_experiment("mnits")
    with pytest.raises(ConfigError, match=r"none.toml: no such file"):
        load_experiment("none.toml")
