"""A job whose notes are in PostgreSQL: killed in the midst of a round, and started again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from job_world import LEVELS, Killed, World, build_world, content_of, kill
from postgres_server import PostgresServer, running

from aggregator.job import MethodConfig


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


def small_world(tmp_path: Path, label: str) -> World:
    world = build_world(tmp_path, label, method=MethodConfig(name="nst", levels=LEVELS), rounds=2)
    return world.add_fleet()


def test_a_killed_job_goes_on_from_its_notes(tmp_path: Path, postgres: PostgresServer) -> None:
    calm = small_world(tmp_path, "calm")
    calm.run()
    world = small_world(tmp_path, "world")
    world.job = replace(world.job, store=postgres.database())
    world.devices[1].silent_in = {1}
    world.when(lambda: any(r.round_id == 1 for r in world.devices[0].receipts), kill)
    with pytest.raises(Killed):
        world.run()
    world.devices[1].silent_in = set()
    world.devices[1].kill()
    world.devices[1].begin()
    world.run()
    assert content_of(world) == content_of(calm)
    assert not any(device.trained_again for device in world.devices)
    assert not list(world.job.output.glob("fleet.db*"))
