"""A job on disk: the round trip, and files that are damaged or of another job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_world import LEVELS, small_plan

from aggregator.checkpoint import (
    CHECKPOINT,
    ROUND,
    Checkpoint,
    OpenRound,
    load_checkpoint,
    load_round,
    save_checkpoint,
    save_round,
)
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
    whole = (tmp_path / CHECKPOINT).read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / CHECKPOINT).write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=f"{CHECKPOINT} is damaged"):
            load_checkpoint(tmp_path, PLAN, "job", "nst")


def test_a_flipped_byte_is_noticed_or_without_effect(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    whole = (tmp_path / CHECKPOINT).read_bytes()
    weights = checkpoint().state.weights
    refused = 0
    for position in range(0, len(whole), 61):
        data = bytearray(whole)
        data[position] ^= 0xFF
        (tmp_path / CHECKPOINT).write_bytes(data)
        try:
            found = load_checkpoint(tmp_path, PLAN, "job", "nst")
        except ConfigError:
            refused += 1
            continue
        assert found is not None
        assert found.state.weights.prunable.tobytes() == weights.prunable.tobytes()
        assert found.state.weights.dense.tobytes() == weights.dense.tobytes()
    assert refused > 50


def test_the_open_round_survives_the_disk(tmp_path: Path) -> None:
    assert load_round(tmp_path) is None
    current = OpenRound(round_id=4, attempt=2, cohort={"a": 0.1, "b.c": 0.05})
    save_round(tmp_path, current)
    assert load_round(tmp_path) == current


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b'{"round_id": 1, "colour": 2}', b"\xff"])
def test_a_damaged_note_of_the_open_round_counts_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ROUND).write_bytes(text)
    assert load_round(tmp_path) is None
