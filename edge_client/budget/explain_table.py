"""A decision's document as plain text: a row a level, what it was held against, the sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from edge_client.budget.document import Document

MIB: Final = 2**20
HEADS: Final = ("level", "how", "peak MiB", "round s", "")
FORMAT: Final = "{:>8}  {:<34}  {:>8}  {:>8}  {}"


def lines(document: Document, now: datetime) -> Iterator[str]:
    """The page, line by line.

    Args:
        document: a decision (edge_client/budget/document.py).
        now: the time that its age is taken from.
    """
    offer = document["offer"]
    yield (
        f"{document['device']} ({document['board']}{', emulated' if document['emulated'] else ''})"
        f" on round {offer['round']} of job '{offer['job']}', stage {offer['stage']}, "
        f"{_age(document['decided'], now)}"
    )
    yield ""
    if document["rows"]:
        yield FORMAT.format(*HEADS).rstrip()
        for row in document["rows"]:
            yield _row_line(row, document).rstrip()
        yield ""
    yield from _means_lines(document)
    yield from _state_lines(document)
    yield ""
    yield document["reason"]


def _row_line(row: dict[str, Any], document: Document) -> str:
    marker = "> " if row["level"] == document["level"] else ""
    how = [row["engine"]]
    how += [f"{row['threads']} threads"] if row["threads"] > 1 else []
    divided = row["micro_batch"] < document["offer"]["batch_size"]
    how += [f"micro-batches of {row['micro_batch']}"] if divided else []
    return FORMAT.format(
        f"{marker}{row['level']:g}",
        ", ".join(how),
        math.ceil(row["peak_bytes"] / MIB),
        _seconds_up(row["round_s"]),
        _verdict(row, document),
    )


def _verdict(row: dict[str, Any], document: Document) -> str:
    if row["level"] == document["level"]:
        return "taken"
    against = [] if row["fits_memory"] else ["too much memory"]
    against += [] if row["fits_deadline"] else ["too slow"]
    if against:
        return ", ".join(against)
    if document["level"] is None:
        return "fits, but the offer is declined"
    if row["level"] < document["level"]:
        return "fits"
    return "fits, waits for room to spare" if not row["spare"] else "fits, waits for more offers"


def _means_lines(document: Document) -> Iterator[str]:
    means = document["means"]
    if means is None:
        return
    fraction = document["budget"]["memory_fraction"]
    label = ", estimated" if means["memory_is_estimated"] else ""
    yield (
        f"memory      {means['memory_bytes'] // MIB} MiB for agent and trainer: "
        f"{means['available_bytes'] // MIB} available ({means['memory_source']}{label}), "
        f"memory_fraction {fraction:g}{_cap(document)}; the agent has "
        f"{math.ceil(means['agent_bytes'] / MIB)}"
    )
    yield f"deadline    {_seconds_down(means['deadline_s'])} s, speed {means['speed_basis']}"
    yield f"link        {_link(means['link'])}"
    correction = means["correction"]
    learnt = (
        f"training x {correction['time_factor']:.2f}, memory x {correction['memory_factor']:.2f}, "
        f"start {correction['start_s']:.1f} s, tasks counted: {correction['tasks']}"
    )
    yield f"corrections {learnt if correction['tasks'] else 'none yet: no task was done'}"


def _state_lines(document: Document) -> Iterator[str]:
    yield f"heat        {_heat(document['heat'])}"
    yield f"power       {_power(document['power'])}"
    rulings = document["policy"]["rulings"]
    said = "; ".join(f"{one['rule']}: {one['because']}" for one in rulings)
    yield f"policy      {'allowed' if document['policy']['allows'] else 'FORBIDDEN'}" + (
        f" ({said})" if said else ""
    )
    if held := document["held"]:
        counted = f", {held['rising']:g} counted {held['offers']}" if held["rising"] else ""
        budget = document["budget"]
        yield (
            f"held        {held['level']:g}{counted}; up after {budget['raise_after']} offers with "
            f"{100 * budget['headroom']:g} % to spare"
        )
        if held["broken"]:
            yield f"broken      {held['broken']}"


def _cap(document: Document) -> str:
    cap = document["budget"]["memory_mib"]
    return "" if cap is None else f", memory_mib {cap:g}"


def _link(link: dict[str, Any]) -> str:
    rates = [
        f"{name} {link[key] / 1e3:.0f} kB/s" if link[key] is not None else f"{name} unknown"
        for name, key in (("down", "down_bytes_per_s"), ("up", "up_bytes_per_s"))
    ]
    return f"{', '.join(rates)} ({link['basis']})"


def _heat(heat: dict[str, Any]) -> str:
    celsius = f"{heat['celsius']:.1f} C" if heat["celsius"] is not None else "unknown"
    throttled = {True: "throttled now", False: "not throttled", None: "throttling unknown"}
    reasons = f" ({', '.join(heat['reasons'])})" if heat["reasons"] else ""
    return f"{celsius}, {throttled[heat['throttled']]}{reasons}"


def _power(power: dict[str, Any]) -> str:
    charge = power["battery_percent"]
    return f"{power['source'] or 'unknown'}" + (f", {charge:.0f} %" if charge is not None else "")


def _seconds_up(seconds: float) -> str:
    """Rounded as in the sentence: what does not fit never reads as if it did."""
    return f"{math.ceil(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"


def _seconds_down(seconds: float) -> str:
    return f"{math.floor(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"


def _age(decided: str, now: datetime) -> str:
    """How long ago; the clock of a board may have jumped since."""
    then = datetime.fromisoformat(decided)
    seconds = (now - then).total_seconds()
    if not 0 <= seconds < 365 * 86_400:
        return f"decided at {decided}"
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"decided {seconds // size:.0f} {name} ago"
    return f"decided {seconds:.0f} seconds ago"
