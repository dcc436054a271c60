"""The demo's devices, options and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.job import JobConfig
from edge_client.budget.correction import TRAINER_START_S
from edge_client.config import ClientConfig
from fedsparse.boards import load_board
from fedsparse.config import load
from fedsparse.errors import ConfigError
from fedsparse.methods.method import METHODS
from fedsparse.plan import Plan
from fedsparse.plan.zoo import PLANS
from fedsparse.transport.config import BrokerConfig
from tools.demo.fleet import FLEET, enlist
from tools.demo.scenario import RECIPES, DemoOptions, Kill, lay_out


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 20])
def test_devices_have_names_of_their_own(count: int) -> None:
    assert len({member.device for member in enlist(count)}) == count


def test_a_small_fleet_still_has_small_and_large_boards() -> None:
    profiles = {member.profile for member in enlist(3)}
    assert len(profiles) == 3


def test_a_dense_job_has_no_memory_caps(tmp_path: Path) -> None:
    assert any(member.memory_mib for member in DemoOptions(output=tmp_path).members)
    dense = DemoOptions(output=tmp_path, method="dense")
    assert not any(member.memory_mib for member in dense.members)


def test_every_data_set_has_a_plan_and_every_board_a_profile() -> None:
    assert RECIPES.keys() <= PLANS.keys()
    for member in FLEET:
        load_board(member.profile)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dataset": "iris"}, "unknown data set 'iris'"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"devices": 1}, "--devices"),
        ({"rounds": 0}, "--rounds"),
        ({"deadline_s": 0.0}, "--deadline"),
        ({"kill": Kill(device="pi6", round_id=1)}, "no device 'pi6'"),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        DemoOptions(output=tmp_path, **change)  # type: ignore[arg-type]


def test_a_kill_is_parsed() -> None:
    assert Kill.parse("pi4-8gb@12") == Kill(device="pi4-8gb", round_id=12)


@pytest.mark.parametrize("text", ["pi5", "pi5@", "@3", "pi5@three", "pi5@-1"])
def test_a_broken_kill_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="DEVICE@ROUND"):
        Kill.parse(text)


def deadline_s(dataset: str, devices: int) -> float:
    options = DemoOptions(output=Path("out"), dataset=dataset, devices=devices)
    return options.round_deadline_s


def test_fewer_devices_have_more_samples_each_and_more_time() -> None:
    full = RECIPES["digits"].deadline_s
    assert deadline_s("digits", 8) == deadline_s("digits", 64) == full
    training_s = full - TRAINER_START_S
    assert deadline_s("digits", 2) == pytest.approx(TRAINER_START_S + 4 * training_s)
    assert deadline_s("watch", 2) == deadline_s("watch", 8)  # one person a device


@pytest.mark.parametrize(
    ("method", "levels"),
    [(name, (1.0,) if name == "dense" else (0.2, 0.1, 0.05)) for name in METHODS],
)
def test_the_laid_out_files_can_be_read(
    tmp_path: Path, method: str, levels: tuple[float, ...]
) -> None:
    said: list[str] = []
    options = DemoOptions(output=tmp_path, dataset="digits", method=method, rounds=2, devices=3)
    layout = lay_out(options, BrokerConfig(port=4321), said.append)
    job = load(JobConfig, layout.job_file)
    assert (job.rounds, job.broker.port, job.method.levels) == (2, 4321, levels)
    assert job.method.name == method
    assert job.cohort.expected_devices == 3
    assert job.test_data is not None
    assert job.test_data.exists()
    Plan.from_json(job.plan.read_text(encoding="utf-8"))
    clients = [load(ClientConfig, path) for path in layout.client_files.values()]
    assert [client.device for client in clients] == list(layout.client_files)
    assert all(client.data.path.exists() for client in clients)
    assert len({client.store for client in clients}) == 3
    assert said


def test_hold_outs_can_stand_in_for_the_test_set(tmp_path: Path) -> None:
    options = DemoOptions(
        output=tmp_path, dataset="digits", rounds=2, devices=2, evaluate_on_devices=True
    )
    layout = lay_out(options, BrokerConfig(), lambda text: None)
    assert load(JobConfig, layout.job_file).test_data is None
