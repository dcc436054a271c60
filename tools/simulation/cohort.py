"""Which virtual clients there are, at which level, and who works in a round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fedsparse.errors import ConfigError
from fedsparse.sparsity.densities import apportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """All clients of a simulation.

    Attributes:
        levels: the largest level of each client, by its number.
        seed: of everything drawn here.
    """

    levels: tuple[float, ...]
    seed: int

    @classmethod
    def enlist(
        cls, clients: int, levels: Sequence[float], shares: Sequence[int], seed: int
    ) -> Population:
        """Give every client a level, in the proportions of `shares` (all the first if empty).

        Raises:
            ConfigError: a level would be left without a client.
        """
        sizes = divide_clients(clients, levels, shares)
        each = [level for level, size in zip(levels, sizes, strict=True) for _ in range(size)]
        # The data of a client say nothing about its level.
        random.Random(f"{seed}/levels").shuffle(each)  # noqa: S311 (a draw)
        return cls(levels=tuple(each), seed=seed)

    def name(self, client: int) -> str:
        """As messages call it."""
        return f"client-{client:04d}"

    def cohort(self, round_id: int, size: int, *, largest_first: bool = False) -> list[int]:
        """Who works in a round: of every level in proportion to its clients.

        Where the proportion is no whole number, rounds differ so that it is met in the long run.

        Args:
            round_id: of the draw.
            size: how many.
            largest_first: as many of the largest level as there are, for stage 1.
        """
        draw = random.Random(f"{self.seed}/cohort/{round_id}")  # noqa: S311 (a draw)
        groups = [
            [client for client, own in enumerate(self.levels) if own == level]
            for level in sorted(set(self.levels), reverse=True)
        ]
        sizes = self._places(round_id, size, [len(group) for group in groups])
        if largest_first:
            sizes, left = [], size
            for group in groups:
                sizes.append(min(left, len(group)))
                left -= sizes[-1]
        drawn = [draw.sample(group, count) for group, count in zip(groups, sizes, strict=True)]
        return sorted(client for group in drawn for client in group)

    def _places(self, round_id: int, size: int, parts: Sequence[int]) -> list[int]:
        """`size` places in proportion to `parts`, by systematic sampling: one start for a round."""
        total = sum(parts)
        start = random.Random(f"{self.seed}/places/{round_id}").randrange(total)  # noqa: S311
        ends = [(size * end + start) // total for end in accumulate(parts, initial=0)]
        return [end - begin for begin, end in pairwise(ends)]


def divide_clients(clients: int, levels: Sequence[float], shares: Sequence[int]) -> list[int]:
    """How many clients have each level, in the proportions of `shares`; all the first if empty.

    Raises:
        ConfigError: a level would be left without a client.
    """
    parts = [float(part) for part in shares] or [1.0, *(0.0 for _ in levels[1:])]
    most = [clients if part else 0 for part in parts]
    sizes = list(apportion(parts, clients, least=[0] * len(parts), most=most))
    for level, share, size in zip(levels, shares, sizes, strict=False):
        if not size:
            raise ConfigError(
                f"shares {list(shares)} of {clients} clients leave none for the level {level:g}: "
                f"its share is {share} of {sum(shares)}"
            )
    return sizes
