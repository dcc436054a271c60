"""What holds a process to its limits, and what the process used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, TypeAlias

Parameter: TypeAlias = float | str | bool | None


class Resource(Enum):
    """What is limited."""

    MEMORY = "memory"
    CPU = "cpu"
    LINK = "link"


class Mechanism(Enum):
    """What does it, the better ones first."""

    CGROUP_2 = "cgroup v2"
    CGROUP_1 = "cgroup v1"
    RLIMIT = "RLIMIT_AS"
    DUTY_CYCLE = "duty cycle"
    NAMESPACE = "network namespace"
    PROXY = "proxy"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How one resource is limited.

    Attributes:
        resource, mechanism: which, and by what.
        parameters: what the mechanism was told, in this host's units, and where that is from.
        approximate: whether a process may get noticeably more or less than on the board.
        passed_over: why each better mechanism was not used, or why nothing limits the resource.
    """

    resource: Resource
    mechanism: Mechanism
    parameters: Mapping[str, Parameter]
    approximate: bool = False
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        known = ((key, value) for key, value in self.parameters.items() if value is not None)
        told = ", ".join(f"{key} {_text(value)}" for key, value in known)
        about = " (approximate)" if self.approximate else ""
        line = f"{self.resource.value}: {self.mechanism.value}{about}" + (
            f", {told}" if told else ""
        )
        return "\n".join([line, *(f"  not better: {reason}" for reason in self.passed_over)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a place is limited.

    Attributes:
        board: its name; None where the limits were given one by one.
        scale: seconds of the board in a second of this host.
        applied: one for each resource.
    """

    board: str | None
    scale: float
    applied: tuple[Applied, ...]

    def of(self, resource: Resource) -> Applied:
        """How one resource is limited."""
        return next(one for one in self.applied if one.resource is resource)

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "board": self.board,
            "time_scale": self.scale,
            **{
                one.resource.value: {
                    "mechanism": one.mechanism.value,
                    "approximate": one.approximate,
                    "parameters": dict(one.parameters),
                    "passed_over": list(one.passed_over),
                }
                for one in self.applied
            },
        }

    def __str__(self) -> str:
        head = f"{self.board or 'no board'}, time scale {self.scale:g}"
        return "\n".join([head, *map(str, self.applied)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of a place used so far, all together; None is unknown.

    Attributes:
        peak_memory_bytes: the most at one moment.
        memory_kills: processes that the kernel killed at the memory limit.
        cpu_s: processor time, on this host.
        throttled_s: how long processes were held back that would have run, on this host's clock:
            added up over processors with control groups, of all processes together otherwise.
        up_bytes, down_bytes: through the link, from and to the place.
    """

    peak_memory_bytes: int | None = None
    memory_kills: int | None = None
    cpu_s: float | None = None
    throttled_s: float | None = None
    up_bytes: int | None = None
    down_bytes: int | None = None

    @property
    def killed_for_memory(self) -> bool | None:
        """Whether the kernel killed a process at the limit; None where that cannot be known."""
        return None if self.memory_kills is None else self.memory_kills > 0

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _text(value: Parameter) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
