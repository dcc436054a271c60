"""One line of a doctor's report, and what all of them add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from fedsparse.doctor.printable import printable

LINE: Final = "{:<4}  {:<12}  {}"
FIX: Final = "  -> "


class Verdict(str, Enum):
    """How it is with what was checked."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


EXIT_CODES: Final = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was found.

    Attributes:
        verdict: whether that is well.
        name: of the check.
        value: what was found.
        fix: the way out; empty where none is needed.
    """

    verdict: Verdict
    name: str
    value: str
    fix: str = ""

    @property
    def line(self) -> str:
        """For people: `FAIL  name  value  -> fix`, without anything that a terminal obeys."""
        text = LINE.format(self.verdict.value, self.name, self.value)
        return printable(text + (FIX + self.fix if self.fix else ""))


def ok(name: str, value: str) -> Row:
    """All is well."""
    return Row(verdict=Verdict.OK, name=name, value=value)


def warn(name: str, value: str, fix: str) -> Row:
    """It works, but not for long or not as it might."""
    return Row(verdict=Verdict.WARN, name=name, value=value, fix=fix)


def fail(name: str, value: str, fix: str) -> Row:
    """It does not work."""
    return Row(verdict=Verdict.FAIL, name=name, value=value, fix=fix)


def fault(name: str, error: Exception, otherwise: str) -> Row:
    """What an error says; our own tell the way out behind a semicolon.

    Args:
        name: of the check.
        error: what was raised.
        otherwise: the way out, where the error names none.
    """
    value, _, fix = str(error).partition("; ")
    return fail(name, value, fix or otherwise)


def exit_code(rows: Iterable[Row]) -> int:
    """0 where all is well, 1 where something is to be looked after, 2 where something fails."""
    return max((EXIT_CODES[row.verdict] for row in rows), default=0)


def document(rows: Iterable[Row]) -> dict[str, Any]:
    """For programs."""
    checks = [asdict(row) | {"verdict": row.verdict.value.lower()} for row in rows]
    return {"exit_code": exit_code(rows), "checks": checks}
