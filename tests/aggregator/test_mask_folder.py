from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aggregator.mask_folder import MaskFolder
from fedsparse.plan.finding import find_plan
from fedsparse.types import BoolArray

PLAN = find_plan("digits")


@pytest.fixture
def mask() -> BoolArray:
    return np.random.default_rng(0).random(PLAN.num_prunable) < 0.1


@pytest.mark.parametrize("damaged", [b"", b"\x00" * 9, None])
def test_a_damaged_mask_is_no_mask_until_it_is_saved_again(
    tmp_path: Path, mask: BoolArray, damaged: bytes | None
) -> None:
    folder = MaskFolder(PLAN, tmp_path)
    digest = folder.save(mask)
    path = tmp_path / f"{digest}.bits"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x00" if damaged is None else damaged)
    assert folder.load(digest) is None
    assert folder.save(mask) == digest
    found = folder.load(digest)
    assert found is not None
    assert np.array_equal(found, mask)


def test_a_mask_that_is_there_keeps_its_place_among_the_oldest(
    tmp_path: Path, mask: BoolArray
) -> None:
    folder = MaskFolder(PLAN, tmp_path)
    order = [folder.save(mask), folder.save(~mask)]
    os.utime(tmp_path / f"{order[0]}.bits", ns=(0, 0))
    folder.save(mask)
    assert folder.digests() == order
