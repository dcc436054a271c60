"""A job on disk: the round trip, and files that are damaged or of another job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_world import LEVELS, small_plan

from aggregator.checkpoint import (
    Checkpoint,
    forget_old,
    generations,
    load_checkpoint,
    path_of,
    save_checkpoint,
)
from aggregator.norms import Norms
from aggregator.vetting import NormHistory
from fedsparse.errors import ConfigError
from fedsparse.methods.method import make_method
from fedsparse.methods.statistics import LevelStatistics, running_positions
from fedsparse.wire.messages import Stage

PLAN = small_plan()


def checkpoint() -> Checkpoint:
    state = make_method("nst", LEVELS, plan=PLAN, rounds=5).initial(np.random.default_rng(0))
    where = running_positions(PLAN)
    values = {level: np.full(where.size, level, np.float32) for level in (LEVELS[2], LEVELS[0])}
    state = replace(state, statistics=LevelStatistics(positions=where, values=values))
    return Checkpoint(
        job="job",
        method="nst",
        plan_digest=PLAN.digest,
        round_id=3,
        stage=Stage.TRAIN,
        state=state,
        trained_levels=frozenset({0.2, 0.05}),
        own_masks={"a": "ab" * 32},
        norms=NormHistory().followed_by({0.2: [Norms(trained=1 / 3, statistics=0.1)]}),
    )


def test_a_checkpoint_survives_the_disk_to_the_bit(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, PLAN, "job", "nst") is None
    saved = checkpoint()
    save_checkpoint(tmp_path, saved)
    found = load_checkpoint(tmp_path, PLAN, "job", "nst")
    assert found is not None
    assert (found.round_id, found.stage) == (3, Stage.TRAIN)
    assert found.trained_levels == saved.trained_levels
    assert found.own_masks == saved.own_masks
    assert found.norms == saved.norms
    assert found.state.weights.prunable.tobytes() == saved.state.weights.prunable.tobytes()
    assert found.state.weights.dense.tobytes() == saved.state.weights.dense.tobytes()
    assert found.state.masks.keys() == saved.state.masks.keys()
    for level, mask in saved.state.masks.items():
        assert found.state.masks[level].dtype == np.bool_
        assert np.array_equal(found.state.masks[level], mask)
    assert found.state.statistics is not None
    assert saved.state.statistics is not None
    assert np.array_equal(found.state.statistics.positions, saved.state.statistics.positions)
    assert found.state.statistics.values.keys() == saved.state.statistics.values.keys()
    for level, values in saved.state.statistics.values.items():
        assert np.array_equal(found.state.statistics.values[level], values)
    kept = (found.state.mask_epoch, found.state.sensed, found.state.pretrained)
    assert kept == (saved.state.mask_epoch, saved.state.sensed, saved.state.pretrained)


def test_levels_without_statistics_of_their_own_have_none_afterwards(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path, replace(saved, state=replace(saved.state, statistics=None)))
    found = load_checkpoint(tmp_path, PLAN, "job", "nst")
    assert found is not None
    assert found.state.statistics is None


@pytest.mark.parametrize(("job", "method"), [("other", "nst"), ("job", "pdst")])
def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path, job: str, method: str) -> None:
    save_checkpoint(tmp_path, checkpoint())
    with pytest.raises(ConfigError, match="belongs to the job 'job'"):
        load_checkpoint(tmp_path, PLAN, job, method)


def test_a_truncated_checkpoint_is_named_at_every_length(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    path = path_of(tmp_path, 3)
    whole = path.read_bytes()
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"3.npz is damaged .*checksum.* move it away"):
            load_checkpoint(tmp_path, PLAN, "job", "nst")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    path = path_of(tmp_path, 3)
    whole = path.read_bytes()
    for position in [*range(0, len(whole), 61), *range(len(whole) - 90, len(whole))]:
        data = bytearray(whole)
        data[position] ^= 0x01
        path.write_bytes(data)
        with pytest.raises(ConfigError, match="is damaged"):
            load_checkpoint(tmp_path, PLAN, "job", "nst")


def test_a_checkpoint_is_a_file_that_numpy_opens(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path, saved)
    with np.load(path_of(tmp_path, 3), allow_pickle=False) as arrays:
        assert arrays["prunable"].tobytes() == saved.state.weights.prunable.tobytes()


def test_the_newest_undamaged_checkpoint_counts_and_two_are_kept(tmp_path: Path) -> None:
    for round_id in (9, 10, 11):
        save_checkpoint(tmp_path, replace(checkpoint(), round_id=round_id))
    forget_old(tmp_path)
    assert generations(tmp_path) == [11, 10]
    path_of(tmp_path, 11).write_bytes(b"")
    found = load_checkpoint(tmp_path, PLAN, "job", "nst")
    assert found is not None
    assert found.round_id == 10


def test_what_else_lies_in_the_folder_is_no_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    for name in ("notes.npz", ".4.npz.123", "5.txt"):
        path_of(tmp_path, 3).with_name(name).write_bytes(b"")
    assert generations(tmp_path) == [3]
