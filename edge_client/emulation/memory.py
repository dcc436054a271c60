"""Memory: the kernel kills past a control group's limit; else there is no more address space."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final, Protocol

from edge_client.emulation.address_space import overhead_bytes
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.group import Group
from edge_client.emulation.groups import KINDS
from edge_client.emulation.report import Applied, Mechanism, Parameter, Resource

KIB: Final = 1024
LEAST_BYTES: Final = 4 * 2**20  # an interpreter does not start in less


class MemoryHold(Protocol):
    """What limits memory."""

    @property
    def applied(self) -> Applied:
        """How."""
        ...

    @property
    def script(self) -> str:
        """Shell words that hold the shell, and what it becomes, to more than its group does."""
        ...

    def change(self, size_bytes: int) -> None:
        """Another limit from now on."""
        ...

    def peak_bytes(self) -> int | None:
        """The most that was used; None where the mechanism does not count."""
        ...

    def forget_peak(self) -> bool:
        """Begin to look for the peak anew; False where that is not possible."""
        ...

    def kills(self) -> int | None:
        """Processes that the kernel killed; None where the mechanism does not count."""
        ...


def hold_memory(
    size_bytes: int | None,
    group: Group | None,
    *,
    facts: dict[str, Parameter],
    refusals: tuple[str, ...] = (),
    avoid: Collection[Mechanism] = (),
) -> MemoryHold:
    """Limit memory by the best there is.

    Args:
        size_bytes: None = no limit.
        group: a control group with the memory controller, where one could be made.
        facts: where the figure is from, for the report.
        refusals: why a better one could not be made.
        avoid: mechanisms not to use.

    Raises:
        EmulationError: no process could start in so little, or the kernel refuses.
    """
    if size_bytes is None:
        return _Unlimited(_nothing(facts, ("no limit was asked for",)))
    if size_bytes < LEAST_BYTES:
        raise EmulationError(f"nothing runs in {size_bytes} bytes: give {LEAST_BYTES} or more")
    if group is not None:
        return _GroupMemory(group, size_bytes, facts, refusals)
    if Mechanism.RLIMIT in avoid:
        reasons = (*refusals, f"{Mechanism.RLIMIT.value}: was not to be used")
        return _Unlimited(_nothing(facts, reasons))
    return _AddressSpace(size_bytes, facts, refusals)


class _GroupMemory:
    """A control group; without swap, as far as the kernel counts it."""

    script = ""

    def __init__(
        self,
        group: Group,
        size_bytes: int,
        facts: dict[str, Parameter],
        refusals: tuple[str, ...],
    ) -> None:
        self._group = group
        self._facts = facts
        self._refusals = refusals
        second = group.version == 2
        self._peak_file = "memory.peak" if second else "memory.max_usage_in_bytes"
        self._peak_bytes = group.number(self._peak_file)
        self._kills = 0
        if group.version == 2:
            # One process dies, as on a board, which has no groups: the trainer and not its agent.
            with suppress(OSError):
                group.write("memory.oom.group", 0)
        self.change(size_bytes)

    @property
    def applied(self) -> Applied:
        return Applied(
            resource=Resource.MEMORY,
            mechanism=KINDS[self._group.version],
            parameters={"bytes": self._size_bytes, "swap": self._swap, **self._facts},
            passed_over=self._refusals,
        )

    def change(self, size_bytes: int) -> None:
        """Set the limit; where more is in use than it allows, version 1 may refuse it."""
        limit, swap = _files(self._group)
        total = 0 if self._group.version == 2 else size_bytes  # version 1 counts both together
        self._swap = "off"
        try:
            self._widen_swap(swap)
            self._group.write(limit, size_bytes)
        except OSError as error:
            raise EmulationError(
                f"the memory limit of {size_bytes} bytes is refused ({error.strerror}): the "
                "processes may use more than that already"
            ) from error
        self._size_bytes = size_bytes
        try:
            self._group.write(swap, total)
        except OSError:
            self._swap = "not counted by this kernel"

    def peak_bytes(self) -> int | None:
        if self._peak_bytes is not None:  # None: a kernel before 5.19 has no `memory.peak`
            self._peak_bytes = max(self._peak_bytes, self._group.number(self._peak_file) or 0)
        return self._peak_bytes

    def forget_peak(self) -> bool:
        # Version 2 forgets only for readers of the same opening, and that from 6.12 on.
        if self._group.version == 2 or self._peak_bytes is None:
            return False
        try:
            self._group.write(self._peak_file, 0)
        except OSError:
            return False
        self._peak_bytes = 0
        return True

    def kills(self) -> int:
        name = "memory.events" if self._group.version == 2 else "memory.oom_control"
        self._kills = max(self._kills, self._group.number(name, "oom_kill") or 0)
        return self._kills

    def _widen_swap(self, swap: str) -> None:
        """Version 1 wants memory never to exceed memory and swap, while both change."""
        if self._group.version == 1:
            with suppress(OSError):
                self._group.write(swap, -1)


class _AddressSpace:
    """RLIMIT_AS: of every process by itself; past it, memory is refused and nothing is killed."""

    def __init__(
        self, size_bytes: int, facts: dict[str, Parameter], refusals: tuple[str, ...]
    ) -> None:
        self._size_bytes = size_bytes
        self._overhead_bytes = overhead_bytes()
        self._facts = facts
        self._refusals = refusals

    @property
    def applied(self) -> Applied:
        return Applied(
            resource=Resource.MEMORY,
            mechanism=Mechanism.RLIMIT,
            parameters={
                "bytes": self._size_bytes,
                "address_space_bytes": self._size_bytes + self._overhead_bytes,
                "overhead_bytes": self._overhead_bytes,
                "counts": "address space, each process by itself",
                **self._facts,
            },
            approximate=True,
            passed_over=self._refusals,
        )

    @property
    def script(self) -> str:
        return f"ulimit -v {(self._size_bytes + self._overhead_bytes) // KIB} || exit 125"

    def change(self, size_bytes: int) -> None:
        """For processes that start from now on."""
        self._size_bytes = size_bytes

    def peak_bytes(self) -> None:
        return None

    def forget_peak(self) -> bool:
        return False

    def kills(self) -> None:
        return None


class _Unlimited:
    """No limit."""

    script = ""

    def __init__(self, applied: Applied) -> None:
        self.applied = applied

    def change(self, size_bytes: int) -> None:
        raise EmulationError(f"memory is not limited here, so it cannot become {size_bytes} bytes")

    def peak_bytes(self) -> None:
        return None

    def forget_peak(self) -> bool:
        return False

    def kills(self) -> None:
        return None


def _files(group: Group) -> tuple[str, str]:
    if group.version == 2:
        return "memory.max", "memory.swap.max"
    return "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


def _nothing(facts: dict[str, Parameter], reasons: tuple[str, ...]) -> Applied:
    return Applied(
        resource=Resource.MEMORY,
        mechanism=Mechanism.NOTHING,
        parameters=facts,
        passed_over=reasons,
    )
