"""One line of an experiment's table, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aggregator.job import SEEDS
from fedsparse.methods.method import METHODS
from fedsparse.wire.messages import NAME

ALPHAS: Final = (1e-3, 1e6)  # what the data sets take


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the data are divided among the clients, a table of `[[splits]]`.

    Attributes:
        alpha: of the Dirichlet distribution over classes; without meaning where the data have
            natural owners.
        seeds: of everything random; one run of every case each.
    """

    alpha: float
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not ALPHAS[0] <= self.alpha <= ALPHAS[1]:
            raise ValueError(f"alpha must be 0.001 to 1000000, got {self.alpha:g}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different numbers, got {list(self.seeds)}")
        if any(seed not in SEEDS for seed in self.seeds):
            raise ValueError(f"seeds must be 0 to 2**31 - 1, got {list(self.seeds)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A method at a density or at several levels, a table of `[[cases]]`.

    Attributes:
        name: in tables and folders.
        method: one of `fedsparse.methods.method.METHODS`.
        density: the one level; not with `levels`. `dense` takes neither.
        levels: densities, largest first.
        shares: clients of each level, out of their sum; empty = all have the largest level.
        settings: keys of `aggregator.job.MethodConfig`, over the experiment's `[method]`.
        training: keys of `aggregator.job.TrainingConfig`, over the experiment's `[training]`.
        values: keys of `aggregator.job.ValuesConfig`, over the experiment's `[values]`.
        rounds: instead of the experiment's.
        alphas, seeds: only these of the experiment's splits; empty = all.
    """

    name: str
    method: str
    density: float | None = None
    levels: tuple[float, ...] = ()
    shares: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    rounds: int | None = None
    alphas: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 letters, digits, '_', '.' or '-', got '{self.name}'"
            )
        where = f"the case '{self.name}'"
        if self.method not in METHODS:
            raise ValueError(f"{where}: method must be one of {', '.join(METHODS)}")
        if (self.method == "dense") != (self.density is None and not self.levels):
            raise ValueError(f"{where}: all but dense need density or levels, dense has neither")
        if self.density is not None and self.levels:
            raise ValueError(f"{where}: density is short for one level; give it or levels")
        for key in ("name", "levels"):
            if key in self.settings:
                raise ValueError(f"{where}: settings: {key} is a key of the case itself")
        if self.shares and (len(self.shares) != len(self.densities) or min(self.shares) < 1):
            raise ValueError(f"{where}: shares must be a positive number for each level")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"{where}: rounds must be at least 1, got {self.rounds}")

    @property
    def densities(self) -> tuple[float, ...]:
        """Its levels, however they were given."""
        if self.method == "dense":
            return (1.0,)
        return self.levels or (self.density or 0.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should come out, a table of `[[expectations]]`; each limit is one verdict an alpha.

    Attributes:
        says: the claim, a sentence.
        case: whom it is about; `level` is which of its levels (the largest where left out).
        against: the case whose accuracy is subtracted; of its levels the same one where it has it,
            else its largest.
        alphas: of these splits; empty = all in which the case is run.
        at_least, at_most: limits of the mean difference in accuracy, in points, over common seeds.
        bytes_ratio_at_least: dense float32 bytes / a client's bytes, both ways, in exchanges
            without a mask.
        job_ratio_at_least: the same over the whole job, with masks and stage 1.
    """

    says: str
    case: str
    level: float | None = None
    against: str = ""
    alphas: tuple[float, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    bytes_ratio_at_least: float | None = None
    job_ratio_at_least: float | None = None

    def __post_init__(self) -> None:
        about_accuracy = self.at_least is not None or self.at_most is not None
        about_bytes = self.bytes_ratio_at_least is not None or self.job_ratio_at_least is not None
        if not about_accuracy and not about_bytes:
            raise ValueError(
                f"the expectation '{self.says}' has no limit: give at_least, at_most, "
                "bytes_ratio_at_least or job_ratio_at_least"
            )
        if about_accuracy != bool(self.against):
            raise ValueError(
                f"the expectation '{self.says}': at_least and at_most need the key against, and it "
                "needs one of them"
            )
