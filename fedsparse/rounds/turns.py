"""Which of the levels that a device can hold it takes in a round."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence


def trained_levels(
    levels: Sequence[float], largest: Mapping[str, float], round_id: int, seed: int
) -> dict[str, float]:
    """Each device trains in turn every level that it can hold.

    A level that few devices hold would else see only their data. Devices that can hold as many
    train the same one, so that a weight which only the larger levels keep is a mean over many
    devices, not what one of them makes of it.

    Args:
        levels: on offer, largest first.
        largest: by device of the cohort, the largest that it can hold.
        round_id: the first training round is 1.
        seed: of the job.

    Source: FjORD (Horvath et al., NeurIPS 2021), where clients draw widths up to their own in
    every step.
    """
    trained = {}
    for device, own in largest.items():
        within = [level for level in levels if level <= own]
        trained[device] = within[_turn(round_id, len(within), seed)]
    return trained


def scored_levels(levels: Sequence[float], largest: Mapping[str, float]) -> dict[str, float]:
    """The first device that holds a level scores it, and further ones those below it.

    Args:
        levels, largest: as for `trained_levels`; devices in order.
    """
    scored, seen = {}, Counter[float]()
    for device, own in largest.items():
        within = [level for level in levels if level <= own]
        scored[device] = within[seen[own] % len(within)]
        seen[own] += 1
    return scored


def _turn(round_id: int, num_levels: int, seed: int) -> int:
    """Whose turn it is, 0 = the largest; each comes once in `num_levels` rounds.

    Largest first at the start, then in an order drawn each time, which falls in step with nothing
    else, as a mask that changes in every so many rounds.
    """
    cycle, position = divmod(round_id - 1, num_levels)
    if cycle == 0:
        return position
    draw = random.Random(f"{seed}/{num_levels}/{cycle}")  # noqa: S311 (a draw)
    return draw.sample(range(num_levels), num_levels)[position]
