"""`client.toml`: who a device is, what it trains on, and what it may use for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_client.runtime.setup import ENGINES, MAX_THREADS
from fedsparse.transport.config import BrokerConfig
from fedsparse.wire.messages import NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The device's own samples, the `[data]` table.

    Attributes:
        path: `.npz` with `x` `(samples, *input_shape)` and integer `y` `(samples,)`.
        holdout: share of the samples that is never trained on, but scores the model.
    """

    path: Path
    holdout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must be in [0, 1), got {self.holdout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetConfig:
    """What training may use, the `[budget]` table.

    Attributes:
        memory_fraction: share of the memory available at the time of the decision.
        memory_mib: a cap beside it, for a board that has other work to do.
        threads: the most that the trainer may use; it takes fewer where that is as fast.
        engine: `auto` takes what is fastest here, layer by layer; `sparse` the sparse kernels
            alone, whose results are the same to the bit in every run; `graph` onnxruntime alone.
        headroom: share of memory and time that a level must leave before it is raised to.
        raise_after: offers in a row that leave it.
    """

    memory_fraction: float = 0.5
    memory_mib: float | None = None
    threads: int = 1
    engine: str = "auto"
    headroom: float = 0.1
    raise_after: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.memory_fraction <= 1:
            raise ValueError(f"memory_fraction must be in (0, 1], got {self.memory_fraction}")
        if self.memory_mib is not None and self.memory_mib <= 0:
            raise ValueError(f"memory_mib must be positive, got {self.memory_mib}")
        if not 1 <= self.threads <= MAX_THREADS:
            raise ValueError(f"threads must be 1 to {MAX_THREADS}, got {self.threads}")
        if self.engine not in ("auto", *ENGINES):
            raise ValueError(f"engine must be auto, {' or '.join(ENGINES)}, got {self.engine!r}")
        if not 0 <= self.headroom <= 1:
            raise ValueError(f"headroom must be in [0, 1], got {self.headroom}")
        if not 1 <= self.raise_after <= 1000:
            raise ValueError(f"raise_after must be 1 to 1000, got {self.raise_after}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """One device.

    Attributes:
        device, site: its name, and the fleet's; both are levels of its topics.
        store: folder of its state: plans, masks, the outbox.
        profile: a board to stand in for the real host (`raspberry-pi-4b-2gb`, or the path of a
            profile), or None.
        policy: a file that says when the device may train (docs/budget.md), or None for always.
    """

    device: str
    site: str
    store: Path
    data: DataConfig
    profile: str | None = None
    policy: Path | None = None
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)

    def __post_init__(self) -> None:
        for key in ("device", "site"):
            if not NAME.fullmatch(getattr(self, key)):
                raise ValueError(
                    f"{key} must be 1 to 64 letters, digits, '_', '.' or '-', "
                    f"got {getattr(self, key)!r}"
                )
