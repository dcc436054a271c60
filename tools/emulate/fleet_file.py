"""`fleet.toml`: which boards there are, what they train, and how fast their time goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from aggregator.job import SEEDS, MethodConfig, TrainingConfig
from edge_client.config import BudgetConfig
from edge_client.emulation.board_limits import open_board
from edge_client.emulation.link import Cut, Link
from edge_client.emulation.scale import FASTEST, SLOWEST
from fedsparse.config import build, read_toml
from fedsparse.errors import ConfigError, DataError
from fedsparse.plan.zoo import PLANS
from fedsparse.wire.messages import NAME
from tools.datasets.registry import find_dataset
from tools.emulate.near import near

MOST_DEVICES: Final = 200
LEAST_MEMORY_MIB: Final = 48.0  # interpreters and numpy alone
LEAST_STORE_MIB: Final = 2.0
MOST_STORE_MIB: Final = 1024.0
PROFILE: Final = "profile"
MEASURED: Final = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTable:
    """A link in place of the board's own, the `link` table of a group; seconds are the board's.

    Attributes:
        up_bytes_per_s, down_bytes_per_s: from and to the device; None = as the board's profile has
            it.
        delay_s, jitter_s: each way.
        loss: share of packets lost at random, each way.
        cut_every_s: the link is cut so often, all through the run; None = never.
        cut_for_s: and for so long.
    """

    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    cut_every_s: float | None = None
    cut_for_s: float = 1.0

    def __post_init__(self) -> None:
        self.link()
        if self.cut_every_s is not None and self.cut_every_s <= 0:
            raise ValueError(f"cut_every_s must be positive, got {self.cut_every_s:g}")
        if max(self.delay_s, self.jitter_s) > 60:
            raise ValueError("delay_s and jitter_s are seconds: at most 60")

    def link(
        self, *, up_bytes_per_s: float | None = None, down_bytes_per_s: float | None = None
    ) -> Link:
        """What the emulation takes; the rates given here stand where the table has none."""
        every_s = self.cut_every_s
        cut = Cut(at_s=every_s, for_s=self.cut_for_s, every_s=every_s) if every_s else None
        return Link(
            up_bytes_per_s=up_bytes_per_s if self.up_bytes_per_s is None else self.up_bytes_per_s,
            down_bytes_per_s=(
                down_bytes_per_s if self.down_bytes_per_s is None else self.down_bytes_per_s
            ),
            delay_s=self.delay_s,
            jitter_s=self.jitter_s,
            loss=self.loss,
            cuts=(cut,) if cut else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Devices of one kind, a `[[groups]]` table.

    Attributes:
        name: of the device; of several `name-1`, `name-2`, ...
        board: a shipped board, or the path of a profile.
        count: how many.
        data_share: of the samples that each would get, so many are kept.
        data: an `.npz` of its own in place of a part of the job's data set.
        policy: a policy file (docs/budget.md), or None for always.
        memory_mib: in place of the profile's, for a board that has other work to do.
        memory_fraction: the share of what is available that the client may take.
        store_mib: the size of the file system of its store; None = as this host's.
        link: in place of the board's own.
    """

    name: str
    board: str
    count: int = 1
    data_share: float = 1.0
    data: Path | None = None
    policy: Path | None = None
    memory_mib: float | None = None
    memory_fraction: float = BudgetConfig().memory_fraction
    store_mib: float | None = None
    link: LinkTable | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or len(self.name) > 48:
            raise ValueError(
                f"name must be 1 to 48 letters, digits, '_', '.' or '-', got '{self.name}'"
            )
        if not 1 <= self.count <= MOST_DEVICES:
            raise ValueError(f"count must be 1 to {MOST_DEVICES}, got {self.count}")
        if not 0 < self.data_share <= 1:
            raise ValueError(f"data_share is a share in (0, 1], got {self.data_share:g}")
        if self.memory_mib is not None and self.memory_mib < LEAST_MEMORY_MIB:
            raise ValueError(
                f"memory_mib {self.memory_mib:g} is absurd: the client alone needs "
                f"{LEAST_MEMORY_MIB:g} MiB"
            )
        BudgetConfig(memory_fraction=self.memory_fraction)
        if self.store_mib is not None and not LEAST_STORE_MIB <= self.store_mib <= MOST_STORE_MIB:
            raise ValueError(
                f"store_mib must be {LEAST_STORE_MIB:g} to {MOST_STORE_MIB:g}, got "
                f"{self.store_mib:g}"
            )
        for key in ("data", "policy"):
            path = getattr(self, key)
            if path is not None and not path.is_file():
                raise ValueError(f"{key}: there is no file {path}")

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of its devices."""
        if self.count == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.count + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the fleet trains, the `[job]` table; seconds are the boards'.

    Attributes:
        dataset: a name that `fedsparse data list` knows; it also names the model.
        rounds: training rounds, after stage 1.
        deadline_s: of a round; devices choose their level by it.
        gather_s: how long a round waits for the answers of devices that are online.
        offline_grace_s: how long a round waits for a device that has gone in its midst.
        min_devices: a round starts when so many are ready; None = half of the fleet.
        participation: share of the ready devices that a round samples.
        alpha: unevenness of the classes, where the data have no natural owners.
        samples: of each device, at most; None = its part of the data set.
        test_samples: that the gateway scores the model on, at most; None = the whole test set.
        method, training: as in `job.toml`.
    """

    rounds: int
    deadline_s: float
    dataset: str = "digits"
    gather_s: float = 120.0
    offline_grace_s: float = 30.0
    min_devices: int | None = None
    participation: float = 1.0
    alpha: float = 1.0
    samples: int | None = None
    test_samples: int | None = None
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=2, batch_size=32, learning_rate=0.05, learning_rate_end=0.005, momentum=0.9
        )
    )

    def __post_init__(self) -> None:
        try:
            find_dataset(self.dataset)
        except DataError as error:
            raise ValueError(str(error)) from error
        if self.dataset not in PLANS:
            raise ValueError(f"dataset: there is no model for '{self.dataset}'")
        if not 1 <= self.rounds <= 10_000:
            raise ValueError(f"rounds must be 1 to 10000, got {self.rounds}")
        for key in ("deadline_s", "gather_s", "offline_grace_s"):
            if not 0 < getattr(self, key) <= 86_400:
                raise ValueError(f"{key} must be more than 0 and at most a day, 86400")
        if self.min_devices is not None and self.min_devices < 1:
            raise ValueError(f"min_devices must be at least 1, got {self.min_devices}")
        if not (0 < self.participation <= 1 and self.alpha > 0):
            raise ValueError("participation must be in (0, 1], and alpha positive")
        for key in ("samples", "test_samples"):
            count = getattr(self, key)
            if count is not None and count < 2:
                raise ValueError(f"{key} must be at least 2, got {count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One fleet file.

    Attributes:
        name: of the fleet, and of the folder of its results.
        title: one line about it.
        groups: the devices.
        job: what they train.
        seed: of everything random.
        time_scale: seconds of every board in a second of this host; None = as fast as this host
            can be all of them at once.
        figures: what devices choose their level by: the `profile`, the same in every run, or what
            they have `measured` of themselves under their limits.
    """

    name: str
    groups: tuple[Group, ...]
    job: Job
    title: str = ""
    seed: int = 0
    time_scale: float | None = None
    figures: str = PROFILE

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 letters, digits, '_', '.' or '-', got '{self.name}'"
            )
        if self.seed not in SEEDS:
            raise ValueError(f"seed must be 0 to 2**31 - 1, got {self.seed}")
        if self.figures not in (PROFILE, MEASURED):
            raise ValueError(f"figures must be {PROFILE} or {MEASURED}, got '{self.figures}'")
        scale = self.time_scale
        if scale is not None and not (math.isfinite(scale) and SLOWEST <= scale <= FASTEST):
            raise ValueError(
                f"time_scale must be {SLOWEST:g} to {FASTEST:g}, got {scale:g}; leave it out for "
                "as fast as this host can"
            )
        self._check_devices()
        for group in self.groups:
            try:
                open_board(group.board)
            except ConfigError as error:
                raise ValueError(f"the group '{group.name}': {error}") from error

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of all devices."""
        return tuple(device for group in self.groups for device in group.devices)

    def group_of(self, device: str) -> Group:
        """The group that a device is of."""
        return next(group for group in self.groups if device in group.devices)

    def _check_devices(self) -> None:
        names = self.devices
        if not 1 <= len(names) <= MOST_DEVICES:
            raise ValueError(f"a fleet has 1 to {MOST_DEVICES} devices, not {len(names)}")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two devices are called '{twice[0]}': rename a group")
        least = self.job.min_devices
        if least is not None and least > len(names):
            raise ValueError(f"min_devices is {least}, and there are {len(names)} devices")


def load_fleet(path: Path) -> Fleet:
    """Read a fleet file; paths and boards in it are taken from its folder.

    Raises:
        ConfigError: it is missing or invalid; the message names file and key.
    """
    table, base = read_toml(path), path.resolve().parent
    for group in table.get("groups", ()):
        board = group.get("board") if isinstance(group, dict) else None
        if isinstance(board, str) and (board.endswith(".toml") or "/" in board):
            group["board"] = str(base / Path(board).expanduser())
    return build(Fleet, table, where=str(path), base=base)


def matching(fleet: Fleet, pattern: str) -> tuple[str, ...]:
    """The devices that a pattern such as `porch-*` means, in the fleet's order.

    Raises:
        ConfigError: none; the nearest names are given.
    """
    names = [group.name for group in fleet.groups]
    found = tuple(
        device
        for device in fleet.devices
        if fnmatchcase(device, pattern) or fleet.group_of(device).name == pattern
    )
    if not found:
        raise ConfigError(
            f"no device is called '{pattern}'{near(pattern, [*fleet.devices, *names])}"
        )
    return found
