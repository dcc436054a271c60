"""An exchange that undoes itself is none: what was just dropped does not grow again at once."""

from __future__ import annotations

import numpy as np
import pytest

from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import random_mask


@pytest.mark.parametrize(("kept", "regrown"), [(320, 0), (533, 0), (700, 250)])
def test_dropped_positions_grow_only_when_no_other_is_left(kept: int, regrown: int) -> None:
    builder = PlanBuilder("one", (40,))
    builder.linear("fc", 20)
    plan, rng = builder.build(), np.random.default_rng(0)
    mask = random_mask(plan, (kept,), rng)
    values = rng.standard_normal(kept).astype(np.float32)
    moved, _ = drop_and_grow(plan, mask, values, 0.5, rng)
    dropped = round(0.5 * kept)
    assert np.count_nonzero(moved & mask) == kept - dropped + regrown
