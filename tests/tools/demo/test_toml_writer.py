"""What the writer writes is what the reader reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from fedsparse.config import load
from fedsparse.transport.config import BrokerConfig
from tools.demo.toml_writer import to_toml


@dataclass(frozen=True, kw_only=True)
class Anything:
    text: str
    number: float
    count: int
    flag: bool
    texts: tuple[str, ...]


def test_a_job_comes_back_as_it_was(tmp_path: Path) -> None:
    job = JobConfig(
        name="watch-spdst",
        site="demo",
        plan=tmp_path / "plan.json",
        output=tmp_path / 'a "quoted" folder',
        rounds=30,
        seed=5,
        test_data=None,
        broker=BrokerConfig(host="localhost", port=1999),
        method=MethodConfig(name="jmwst", levels=(0.5, 0.25), r_int=3),
        training=TrainingConfig(learning_rate=0.3, learning_rate_end=1e-5, momentum=0.9),
        cohort=CohortConfig(min_devices=8, deadline_s=2.5),
    )
    path = tmp_path / "job.toml"
    path.write_text(to_toml(job), encoding="utf-8")
    assert load(JobConfig, path) == job


@pytest.mark.parametrize("memory_mib", [None, 40.0])
def test_a_client_comes_back_as_it_was(tmp_path: Path, memory_mib: float | None) -> None:
    client = ClientConfig(
        device="zero",
        site="demo",
        store=tmp_path / "store",
        data=DataConfig(path=tmp_path / "x.npz", holdout=0.25),
        profile="raspberry-pi-zero-2w",
        budget=BudgetConfig(memory_mib=memory_mib, threads=2),
    )
    path = tmp_path / "client.toml"
    path.write_text(to_toml(client), encoding="utf-8")
    assert load(ClientConfig, path) == client


def test_whole_numbers_are_written_for_people_and_empty_headings_not_at_all() -> None:
    text = to_toml(
        ClientConfig(
            device="zero",
            site="demo",
            store=Path("/store"),
            data=DataConfig(path=Path("/x.npz"), holdout=0.25),
            budget=BudgetConfig(memory_mib=2048.0),
        )
    )
    assert "memory_mib = 2_048\n" in text
    assert "holdout = 0.25\n" in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    number=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(-(2**63), 2**63 - 1),
    flag=st.booleans(),
    texts=st.lists(st.text(st.characters(codec="ascii"))),
)
def test_any_value_comes_back_as_it_was(
    tmp_path: Path, text: str, number: float, count: int, flag: bool, texts: list[str]
) -> None:
    value = Anything(text=text, number=number, count=count, flag=flag, texts=tuple(texts))
    path = tmp_path / "anything.toml"
    path.write_text(to_toml(value), encoding="utf-8", newline="")
    assert load(Anything, path) == value
