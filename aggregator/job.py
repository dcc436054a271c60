"""`job.toml`: what is trained, how, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aggregator.aggregation import AggregateConfig
from fedsparse.methods.method import INITIALISATIONS, METHODS
from fedsparse.rounds.server import Policy
from fedsparse.transport.config import BrokerConfig
from fedsparse.wire.codecs import F16, I8, VALUE_BYTES
from fedsparse.wire.messages import MAX_NUMBER, NAME

SEEDS: Final = range(2**31)
MAX_EPOCHS: Final = 10_000  # that a task may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """How sparsity is found, the `[method]` table.

    Attributes:
        name: one of `METHODS`.
        levels: the densities that devices may choose from, largest first; `dense` has only 1.0.
        r_int: `jmwst`: rounds between two changes of the mask.
        prune_rate: share of a layer's kept weights that drop-and-grow exchanges, at the start; None
            is the method's own: 0.25, and 0.02 with `sparsyfed`.
        rotate_levels: whether a device trains in turn at every level up to its own, so that all
            levels learn from all data (not with `nst`, where a device goes on with its own mask).
        sense_devices, sense_epochs: stage 1 (`spdst`, `jmwst`, `ssfl`): how many devices, and for
            how long (`ssfl` takes a single batch).
        level_statistics: whether each level has running statistics (batch-norm) of its own.
        initialisation: weights are drawn for the `kept` fan-in, or for the `dense` one.
        reference_compat: for a side-by-side check with the reference code only (docs/algorithm.md).
    """

    name: str = "spdst"
    levels: tuple[float, ...] = (0.2, 0.1, 0.05)
    r_int: int = 5
    prune_rate: float | None = None
    rotate_levels: bool = True
    sense_devices: int = 2
    sense_epochs: int = 10
    level_statistics: bool = True
    initialisation: str = "kept"
    reference_compat: bool = False

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ValueError(f"name must be one of {', '.join(METHODS)}, got '{self.name}'")
        if not self.levels or any(not 0 < level <= 1 for level in self.levels):
            raise ValueError(f"levels must be densities in (0, 1], got {list(self.levels)}")
        if list(self.levels) != sorted(set(self.levels), reverse=True):
            raise ValueError(f"levels must decrease, got {list(self.levels)}")
        if len({f"{level:g}" for level in self.levels}) < len(self.levels):
            raise ValueError(f"levels must differ in six digits, got {list(self.levels)}")
        if self.name == "dense" and self.levels != (1.0,):
            raise ValueError("the method 'dense' has one level: write levels = [1.0]")
        if self.initialisation not in INITIALISATIONS:
            raise ValueError(f"initialisation must be kept or dense, got '{self.initialisation}'")
        if self.r_int < 1 or self.sense_devices < 1 or self.sense_epochs < 1:
            raise ValueError("r_int, sense_devices and sense_epochs must be at least 1")
        if self.sense_epochs > MAX_EPOCHS:
            raise ValueError(f"sense_epochs must be at most {MAX_EPOCHS}, got {self.sense_epochs}")
        if self.prune_rate is not None and not 0 <= self.prune_rate < 1:
            raise ValueError(f"prune_rate must be in [0, 1), got {self.prune_rate}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What a device does in a round, the `[training]` table; the rate falls exponentially."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    learning_rate_end: float = 0.001
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= MAX_EPOCHS:
            raise ValueError(f"epochs must be 1 to {MAX_EPOCHS}, got {self.epochs}")
        if not 1 <= self.batch_size <= 65536:
            raise ValueError(f"batch_size must be 1 to 65536, got {self.batch_size}")
        if not 0 < self.learning_rate_end <= self.learning_rate:
            raise ValueError("0 < learning_rate_end <= learning_rate must hold")
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise ValueError("momentum must be in [0, 1) and weight_decay not negative")
        if max(self.learning_rate, self.weight_decay) >= MAX_NUMBER:
            raise ValueError(f"learning_rate and weight_decay must be below {MAX_NUMBER:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesConfig:
    """How values travel, the `[values]` table (docs/wire.md, section 5).

    Attributes:
        up, down: the codec of what devices send, and of what they are sent: `f32`, `f16` or `i8`.
        error_feedback: whether a device keeps what `i8` lost of an update, for its next one.
    """

    up: str = I8
    down: str = F16
    error_feedback: bool = False

    def __post_init__(self) -> None:
        for key in ("up", "down"):
            if (codec := getattr(self, key)) not in VALUE_BYTES:
                raise ValueError(f"{key} must be one of {', '.join(VALUE_BYTES)}, got '{codec}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortConfig:
    """Who takes part and how long a round waits, the `[cohort]` table.

    Attributes:
        min_devices: a round starts when so many devices are ready.
        expected_devices: the first round waits up to `gather_s` for so many (0: always so long).
        participation: share of the ready devices that a round samples.
        gather_s: how long a round waits for the answers of devices that are online.
        deadline_s: how long a round lasts at most, from its tasks on; devices choose levels by it.
        offline_grace_s: how long a round waits for a device that went offline in its midst.
        quorum: a round closes before its deadline when so large a share of its devices delivered;
            what comes later is late. 1.0 waits for all.
        max_examples: the most that an update counts as, whatever its device claims.
        bound_norms: whether changes are refused that are out of all proportion to those of the
            rounds before.
    """

    min_devices: int = 2
    expected_devices: int = 0
    participation: float = 1.0
    gather_s: float = 10.0
    deadline_s: float = 120.0
    offline_grace_s: float = 5.0
    quorum: float = 1.0
    max_examples: int = 100_000
    bound_norms: bool = True

    def __post_init__(self) -> None:
        if self.min_devices < 1:
            raise ValueError(f"min_devices must be at least 1, got {self.min_devices}")
        if not 0 < self.participation <= 1:
            raise ValueError(f"participation must be in (0, 1], got {self.participation}")
        if not 0 < self.quorum <= 1:
            raise ValueError(f"quorum must be in (0, 1], got {self.quorum}")
        if self.gather_s <= 0 or self.deadline_s <= 0 or self.offline_grace_s < 0:
            raise ValueError("gather_s, deadline_s and offline_grace_s must be positive")
        if self.expected_devices < 0:
            raise ValueError(f"expected_devices must not be negative: {self.expected_devices}")
        if self.max_examples < 1:
            raise ValueError(f"max_examples must be at least 1, got {self.max_examples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """One training job.

    Attributes:
        name, site: the job's name, and the fleet's (a level of every topic).
        plan: the model, as written by `fedsparse model import`.
        weights: `.npz` of initial values by tensor name, or None to initialise afresh.
        output: folder for checkpoints, the spool, events and the finished models.
        rounds: training rounds, after stage 1.
        seed: of everything random on the gateway and in the tasks.
        test_data: `.npz` with `x` and `y` on the gateway; None evaluates on devices' hold-outs.
        fleet: the folder of the fleet whose broker it is (docs/security.md), if it is on this
            machine: it then decides about `[broker]`.
        store: the fleet's store: a file of SQLite, or the URL of a PostgreSQL database; by default
            that of `fleet`, or `fleet.db` in `output`. Jobs may share one.
    """

    name: str
    site: str
    plan: Path
    output: Path
    rounds: int
    seed: int = 0
    weights: Path | None = None
    test_data: Path | None = None
    fleet: Path | None = None
    store: str = ""
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    cohort: CohortConfig = field(default_factory=CohortConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)
    aggregate: AggregateConfig = field(default_factory=AggregateConfig)

    def __post_init__(self) -> None:
        for key in ("name", "site"):
            if not NAME.fullmatch(getattr(self, key)):
                raise ValueError(
                    f"{key} must be 1 to 64 letters, digits, '_', '.' or '-', "
                    f"got {getattr(self, key)!r}"
                )
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if self.seed not in SEEDS:
            raise ValueError(f"seed must be 0 to 2**31 - 1, got {self.seed}")
        if self.method.reference_compat and self.aggregate != AggregateConfig():
            raise ValueError("reference_compat folds as the reference does: no [aggregate] with it")

    @property
    def policy(self) -> Policy:
        """How rounds are filled and how long they wait, for the state machine."""
        cohort, method = self.cohort, self.method
        kind, _ = METHODS[method.name]
        # Saliency takes the dense model: few devices may hold it, and no more are waited for.
        enough = method.sense_devices if kind.salient else cohort.min_devices
        return Policy(
            min_devices=cohort.min_devices,
            min_sense_devices=min(enough, cohort.min_devices),
            expected_devices=cohort.expected_devices,
            participation=cohort.participation,
            gather_s=cohort.gather_s,
            deadline_s=cohort.deadline_s,
            offline_grace_s=cohort.offline_grace_s,
            quorum=cohort.quorum,
            sense_devices=method.sense_devices,
            rotate_levels=method.rotate_levels and method.name != "nst",
            seed=self.seed,
        )
