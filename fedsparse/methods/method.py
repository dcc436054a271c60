"""The protocol of a federated method, and the choice of one by its name in `job.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from fedsparse.errors import ConfigError
from fedsparse.methods.fixed import FixedMasks, MaskReport, SenseReport
from fedsparse.methods.jmwst import JointMasks
from fedsparse.methods.name import MethodName
from fedsparse.methods.nst import OwnMasks
from fedsparse.methods.sparsyfed import ReparametrisedMasks
from fedsparse.methods.ssfl import SalientMasks
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.types import Float32Array, Weights

_KINDS: Final = {
    MethodName.DENSE: (FixedMasks, False),
    MethodName.NST: (OwnMasks, False),
    MethodName.PDST: (FixedMasks, False),
    MethodName.SPDST: (FixedMasks, True),
    MethodName.JMWST: (JointMasks, True),
    MethodName.SSFL: (SalientMasks, True),
    MethodName.SPARSYFED: (ReparametrisedMasks, False),
}
# By name: the class, and whether stage 1 comes first.
METHODS: Final[Mapping[str, tuple[type[FixedMasks], bool]]] = {
    name.value: _KINDS[name] for name in MethodName
}
INITIALISATIONS: Final = ("kept", "dense")


class Method(Protocol):
    """How the masks of a job come about and change; a pure function of the state and the updates.

    Training rounds count from 0 to `rounds - 1`; stage 1 comes before them and is not counted.
    """

    @property
    def senses(self) -> bool:
        """Whether stage 1 is needed: a few devices report what the masks are to be made of."""
        ...

    @property
    def salient(self) -> bool:
        """Whether that is the saliency of all weights; else they train, and report counts."""
        ...

    @property
    def power(self) -> float:
        """Prunable weights are trained as `theta * |theta|^(power - 1)`; 1 = as they are."""
        ...

    @property
    def own_masks(self) -> bool:
        """Whether a device goes on with its own mask, once it got its level's to start with."""
        ...

    @property
    def reference_compat(self) -> bool:
        """Whether updates are folded as the reference code does it (`MaskedMean`)."""
        ...

    def first_counts(self, level: float) -> tuple[int, ...]:
        """What a level keeps of each prunable tensor in the first round, before there are masks."""
        ...

    def initial(self, rng: np.random.Generator, weights: Weights | None = None) -> ServerState:
        """The state before the first round.

        Args:
            rng: source of masks and weights.
            weights: pretrained values, `(num_prunable,)` and `(num_dense,)`, or None to draw them.
        """
        ...

    def after_sense(
        self,
        state: ServerState,
        reports: Sequence[SenseReport],
        rng: np.random.Generator,
        saliency: Float32Array | None = None,
    ) -> ServerState:
        """The state after stage 1.

        New masks have the layer densities found, and weights are drawn anew; where the method is
        `salient` the masks keep what matters most, and the weights stay those it was measured on.

        Args:
            state: the one under which the devices worked.
            reports: of each device, its examples and its kept weights per prunable tensor.
            rng: source of masks and weights.
            saliency: `(num_prunable,)`, the mean over devices by examples; None where they report
                counts.

        Raises:
            ValueError: there are no reports, or no saliency where it is needed.
        """
        ...

    def evolves(self, round_id: int) -> bool:
        """Whether devices drop and grow in this training round, and send their masks."""
        ...

    def prune_rate(self, round_id: int) -> float:
        """The share that drop-and-grow exchanges in this round; that of round 0 is for stage 1."""
        ...

    def next_state(
        self,
        state: ServerState,
        mean: Weights,
        reports: Sequence[MaskReport],
        round_id: int,
    ) -> ServerState:
        """The state after a training round; `mask_epoch` tells whether the masks changed.

        Args:
            state: the one that the round started from.
            mean: the folded updates, `(num_prunable,)` and `(num_dense,)`.
            reports: of each update, its examples, level and kept weights per prunable tensor.
            round_id: the round that ended.
        """
        ...


def make_method(
    name: str,
    levels: Sequence[float],
    *,
    plan: Plan,
    rounds: int,
    r_int: int = 1,
    prune_rate: float | None = None,
    initialisation: str = "kept",
    reference_compat: bool = False,
) -> Method:
    """Build a method.

    Args:
        name: one of `METHODS`.
        levels: densities that devices train at, largest first; `dense` trains at 1.0 alone.
        plan: the model.
        rounds: training rounds.
        r_int: `jmwst`: rounds between two changes of the masks.
        prune_rate: `nst`, `jmwst`, `sparsyfed`, and stage 1: share exchanged by drop-and-grow at
            the start; None is the method's own.
        initialisation: one of `INITIALISATIONS`: which fan-in weights are drawn for.
        reference_compat: the reference's lower levels, for a side-by-side check.

    Raises:
        ConfigError: the name is unknown, or the levels do not suit it.
    """
    decreasing = list(levels) == sorted(set(levels), reverse=True)
    if not levels or not decreasing or not 0 < levels[-1] <= levels[0] <= 1:
        raise ConfigError(f"levels must be densities that decrease in (0, 1], got {list(levels)}")
    if name not in METHODS:
        raise ConfigError(f"method '{name}' is none of {', '.join(METHODS)}")
    if name == "dense" and tuple(levels) != (1.0,):
        raise ConfigError(f"the method 'dense' has the one level 1.0, got {list(levels)}")
    if initialisation not in INITIALISATIONS:
        raise ConfigError(f"initialisation '{initialisation}' is neither 'kept' nor 'dense'")
    kind, senses = METHODS[name]
    chosen = {} if prune_rate is None else {"start_rate": prune_rate}
    return kind(
        plan=plan,
        levels=tuple(levels),
        rounds=rounds,
        senses=senses,
        r_int=r_int,
        **chosen,
        initialisation=initialisation,
        reference_compat=reference_compat,
    )
