"""Requests and masks on a device's disk: the round trip, and damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.masks import MaskMissingError, load_mask, receive_mask, save_mask
from edge_client.trainer.request import (
    CalibrateRequest,
    Request,
    TrainRequest,
    read_request,
    to_json,
)
from fedsparse.errors import ConfigError, RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.packing import encode_mask, mask_digest
from fedsparse.types import BoolArray
from fedsparse.wire.messages import Part

TRAIN = TrainRequest(
    task="t",
    plan="p",
    masks="m",
    data="d",
    holdout=0.1,
    output='o with "quotes" and ü',
    setup=EngineSetup(micro_batch=8, dense_layers=("a.weight", "b.weight"), threads=2),
    agent_rss_bytes=123,
    residual="r",
    lost="l",
)
CALIBRATE = CalibrateRequest(
    plan="p", levels=(0.2, 0.05), kept=((3, 4), (1, 1)), batch_size=8, output="o", threads=1
)


@pytest.mark.parametrize("request_", [TRAIN, CALIBRATE])
def test_a_request_survives_its_file(tmp_path: Path, request_: Request) -> None:
    path = tmp_path / "request.json"
    path.write_text(to_json(request_), encoding="utf-8")
    assert read_request(path) == request_


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "7", "{}", '{"kind": "Other"}', '{"kind": ["x"]}', '{"kind": "TrainRequest"}',
        to_json(TRAIN)[:-3],
        to_json(TRAIN).replace('"threads"', '"thread"'),
        to_json(TRAIN).replace('"sparse"', '"steam"'),
        to_json(TRAIN).replace('"micro_batch": 8', '"micro_batch": 0'),
        to_json(CALIBRATE).replace('"kept": [[3, 4], [1, 1]]', '"kept": 3'),
    ],
)  # fmt: skip
def test_a_file_that_is_no_request_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"request\.json"):
        read_request(path)


def test_a_request_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        read_request(tmp_path / "none.json")


@pytest.fixture
def plan() -> Plan:
    builder = PlanBuilder("p", (7,))
    builder.linear("last", 3)
    return builder.build()


def mask_of(plan: Plan, seed: int, kept: int = 5) -> BoolArray:
    mask = np.zeros(plan.num_prunable, np.bool_)
    mask[np.random.default_rng(seed).choice(mask.size, kept, replace=False)] = True
    return mask


def part_of(mask: BoolArray, base: BoolArray | None, plan: Plan) -> tuple[Part, memoryview]:
    encoded = encode_mask(mask, base)
    named = mask_digest(plan.digest, base) if encoded.base and base is not None else ""
    part = Part(name="mask", codec=encoded.codec, size=len(encoded.data), base=named)
    return part, memoryview(encoded.data)


def test_a_mask_that_came_is_kept_for_the_next_task(tmp_path: Path, plan: Plan) -> None:
    mask = mask_of(plan, 0)
    digest = mask_digest(plan.digest, mask)
    with pytest.raises(MaskMissingError, match="not here"):
        receive_mask(plan, digest, None, tmp_path)
    assert np.array_equal(receive_mask(plan, digest, part_of(mask, None, plan), tmp_path), mask)
    assert np.array_equal(receive_mask(plan, digest, None, tmp_path), mask)


def test_a_change_is_applied_to_the_mask_that_it_names(tmp_path: Path) -> None:
    builder = PlanBuilder("wide", (100,))
    builder.linear("last", 30)
    plan = builder.build()
    base = mask_of(plan, 0, kept=900)
    mask = base.copy()
    mask[np.flatnonzero(base)[:2]] = False
    digest = mask_digest(plan.digest, mask)
    part = part_of(mask, base, plan)
    assert part[0].base
    with pytest.raises(MaskMissingError):
        receive_mask(plan, digest, part, tmp_path)
    save_mask(tmp_path, mask_digest(plan.digest, base), base)
    assert np.array_equal(receive_mask(plan, digest, part, tmp_path), mask)


def test_a_mask_of_another_digest_is_refused_and_not_kept(tmp_path: Path, plan: Plan) -> None:
    digest = mask_digest(plan.digest, mask_of(plan, 1))
    with pytest.raises(RemoteProtocolError, match="is not"):
        receive_mask(plan, digest, part_of(mask_of(plan, 0), None, plan), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "empty"])
def test_a_mask_that_was_damaged_on_the_disk_is_removed_and_missing(
    tmp_path: Path, plan: Plan, damage: str
) -> None:
    mask = mask_of(plan, 0)
    digest = mask_digest(plan.digest, mask)
    save_mask(tmp_path, digest, mask)
    path = tmp_path / f"{digest}.bits"
    data = bytearray(path.read_bytes())
    data[0] ^= damage == "flip"
    path.write_bytes({"truncate": data[:-1], "extend": data + b"x", "empty": b""}.get(damage, data))
    with pytest.raises(MaskMissingError, match="damaged"):
        load_mask(plan, tmp_path, digest)
    assert not path.exists()
