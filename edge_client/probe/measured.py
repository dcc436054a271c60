"""What takes seconds to measure, what it depends on, and how it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from edge_client.kept import kept_document
from edge_client.probe.bandwidth import Bandwidth
from edge_client.probe.storage import WriteSpeed
from fedsparse.errors import DataError

FORMAT: Final = 2
FILE: Final = "profile.json"
LONGEST: Final = timedelta(days=30)
CLOCK_SLACK: Final = timedelta(days=1)  # a board without a clock of its own may wake up behind
DENSITY: Final = 0.1  # of the rates whose mean stands for a board's speed
STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"

Basis = Mapping[str, str]  # what the figures depend on: name -> value, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSpeed:
    """One model at one density, in training (edge_client/trainer/kernel_speed.py).

    Attributes:
        model: its name.
        density: the share of its weights that was kept.
        multiply_adds_per_s: of one thread: the cost model's work over wall time.
        seconds: how long it was trained.
    """

    model: str
    density: float
    multiply_adds_per_s: float
    seconds: float

    def __post_init__(self) -> None:
        if not (_is_positive(self.multiply_adds_per_s) and _is_positive(self.seconds)):
            raise ValueError(f"{self.multiply_adds_per_s} multiply-adds/s in {self.seconds} s")
        if not 0 < self.density <= 1:
            raise ValueError(f"density {self.density} is not in (0, 1]")

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KernelSpeed:
        """Read what a process has said, or a file holds; raises what wrong types and values do."""
        return cls(
            model=str(document["model"]),
            density=float(document["density"]),
            multiply_adds_per_s=float(document["multiply_adds_per_s"]),
            seconds=float(document["seconds"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All of it.

    Attributes:
        measured_at: when, UTC.
        basis: what the figures depend on.
        kernel_speed: may be empty.
        bandwidth: of memory; None is unknown.
        writing: to the folder that `basis` names.
        unknown: what could not be measured, and why.
    """

    measured_at: datetime
    basis: Basis
    kernel_speed: tuple[KernelSpeed, ...]
    bandwidth: Bandwidth | None
    writing: WriteSpeed
    unknown: tuple[str, ...]

    @property
    def stamp(self) -> str:
        """When, as JSON has it."""
        return self.measured_at.strftime(STAMP)

    def to_json(self) -> str:
        """A text for the cache."""
        document = {
            "format": FORMAT,
            "measured_at": self.stamp,
            "basis": dict(self.basis),
            "kernel_speed": [asdict(row) for row in self.kernel_speed],
            "memory_bandwidth": asdict(self.bandwidth) if self.bandwidth else None,
            "writing": {
                "write_bytes_per_s": self.writing.write_bytes_per_s,
                "written_bytes": self.writing.written_bytes,
            },
            "unknown": list(self.unknown),
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Measurement:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else.
        """
        with kept_document(text, "no measurement", FORMAT, key="format") as document:
            when = datetime.strptime(document["measured_at"], STAMP).replace(tzinfo=timezone.utc)
            return cls(
                measured_at=when,
                basis={str(name): str(value) for name, value in document["basis"].items()},
                kernel_speed=tuple(map(KernelSpeed.from_document, document["kernel_speed"])),
                bandwidth=read_bandwidth(document["memory_bandwidth"]),
                writing=_read_writing(document["writing"]),
                unknown=tuple(map(str, document["unknown"])),
            )


def why_again(path: Path, basis: Basis, now: datetime) -> tuple[Measurement | None, str]:
    """The measurement that is kept, if it still holds; else None and why it does not.

    Args:
        path: where it would be.
        basis: what figures depend on now.
        now: UTC.
    """
    try:
        kept = Measurement.from_json(path.read_bytes())
    except FileNotFoundError:
        return None, f"none was kept in {path}"
    except (OSError, DataError) as error:
        return None, f"what was kept in {path} is damaged or of another version: {error}"
    if reason := _outdated(kept, basis, now):
        return None, reason
    return kept, f"kept in {path}; nothing that the figures depend on has changed"


def read_bandwidth(document: Mapping[str, Any] | None) -> Bandwidth | None:
    """Read what a process has said, or a file holds; raises what wrong types and values do."""
    if document is None:
        return None
    found = Bandwidth(
        copy_bytes_per_s=float(document["copy_bytes_per_s"]),
        set_bytes_per_s=float(document["set_bytes_per_s"]),
        block_bytes=int(document["block_bytes"]),
    )
    if not all(map(_is_positive, asdict(found).values())):
        raise ValueError(f"a bandwidth of {found}")
    return found


def _outdated(kept: Measurement, basis: Basis, now: datetime) -> str:
    for name in sorted({*basis, *kept.basis}):
        before, after = kept.basis.get(name, "unknown"), basis.get(name, "unknown")
        if before != after:
            return f"{name} is {after}, was {before}"
    if kept.unknown:
        return f"last time something was missing: {kept.unknown[0]}"
    age = now - kept.measured_at
    if age > LONGEST:
        return f"the last one is {age.days} days old"
    if age < -CLOCK_SLACK:
        return f"the last one is of {kept.stamp}, which is still to come by this clock"
    return ""


def _read_writing(document: Mapping[str, Any]) -> WriteSpeed:
    rate = document["write_bytes_per_s"]
    if rate is not None and not _is_positive(float(rate)):
        raise ValueError(f"a write speed of {rate}")
    return WriteSpeed(
        write_bytes_per_s=None if rate is None else float(rate),
        written_bytes=int(document["written_bytes"]),
    )


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
