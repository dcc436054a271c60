"""Why a device takes a level or declines: one sentence with the figures, for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from edge_client.budget.forecast import LevelForecast, Means
from edge_client.budget.hysteresis import Hold

MIB: Final = 2**20
MAX_REASON: Final = 360
NO_SAMPLES: Final = "declined: the device has no training samples"
WORTH_TELLING: Final = 0.05  # a correction below that is noise


def why_taken(
    rows: Sequence[LevelForecast],
    chosen: LevelForecast,
    means: Means,
    hold: Hold | None,
    raise_after: int,
) -> str:
    """The level, how it is trained, what that takes, and what stood against the next level."""
    notes = ", ".join(_time_notes(means))
    sentence = (
        f"{chosen.level:g}: {_how(chosen)}, round {_seconds_up(chosen.round_s)} of "
        f"{_seconds_down(means.deadline_s)} s{f' ({notes})' if notes else ''}, "
        f"memory {_mib_up(chosen.peak_bytes)} of {_mib_up(means.memory_bytes)} MiB"
        f"{_memory_notes(means)}"
    )
    waiting = hold.offers if hold is not None and hold.rising else 0
    return _with_notes(sentence, [_next_larger(rows, chosen, waiting, raise_after), *_broken(hold)])


def why_declined(smallest: LevelForecast, means: Means, hold: Hold | None) -> str:
    """What even the smallest level would take, and what there is."""
    needs = []
    if not smallest.fits_memory:
        label = ", estimated" if means.memory_is_estimated else ""
        needs.append(f"{_mib_up(smallest.peak_bytes)} MiB (has {means.memory_bytes // MIB}{label})")
    if not smallest.fits_deadline:
        notes = "".join(f", {note}" for note in _time_notes(means))
        needs.append(
            f"{_seconds_up(smallest.round_s)} s (has {_seconds_down(means.deadline_s)}{notes})"
        )
    divided = f" in {_parts(smallest)}" if smallest.is_divided else ""
    what = "the dense model" if smallest.keeps_all else f"{smallest.level:g}"
    sentence = f"declined: {what}{divided} needs {' and '.join(needs)}"
    return _with_notes(sentence, _broken(hold))


def _with_notes(sentence: str, notes: Iterable[str]) -> str:
    """As many notes as there is room for."""
    for note in notes:
        if note and len(sentence) + len(note) + 2 <= MAX_REASON:
            sentence = f"{sentence}; {note}"
    return sentence[:MAX_REASON]


def _how(row: LevelForecast) -> str:
    threads = f", {row.setup.threads} threads" if row.setup.threads > 1 else ""
    parts = f", {_parts(row)}" if row.is_divided else ""
    weights = "all weights, " if row.keeps_all and row.level < 1 else ""
    return f"{weights}{row.setup.engine}{threads}{parts}"


def _parts(row: LevelForecast) -> str:
    return f"micro-batches of {row.setup.micro_batch}"


def _next_larger(
    rows: Sequence[LevelForecast], chosen: LevelForecast, waiting: int, raise_after: int
) -> str:
    index = rows.index(chosen)
    if index == 0:
        return ""
    larger, needs = rows[index - 1], []
    if larger.fits:
        counted = f"{waiting} of {raise_after} offers" if waiting else "not enough to spare"
        return f"{larger.level:g} would fit, and waits ({counted})"
    if not larger.fits_deadline:
        needs.append(f"{_seconds_up(larger.round_s)} s")
    if not larger.fits_memory:
        needs.append(f"{_mib_up(larger.peak_bytes)} MiB")
    return f"{larger.level:g} would take {' and '.join(needs)}"


def _broken(hold: Hold | None) -> list[str]:
    return [f"before: {hold.broken}"] if hold is not None and hold.broken else []


def _time_notes(means: Means) -> list[str]:
    factor = means.correction.time_factor
    corrected = f"{factor:.2g} x calibrated" if abs(factor - 1) >= WORTH_TELLING else ""
    throttled = "throttled now" if means.throttled else ""
    return [note for note in (_speed_note(means), corrected, throttled, _link_note(means)) if note]


def _memory_notes(means: Means) -> str:
    factor = means.correction.memory_factor
    notes = ["estimated"] if means.memory_is_estimated else []
    notes += [f"{factor:.2g} x forecast"] if factor - 1 >= WORTH_TELLING else []
    return f" ({', '.join(notes)})" if notes else ""


def _speed_note(means: Means) -> str:
    return "" if means.speed.basis == "measured" else f"{means.speed.basis} speed"


def _link_note(means: Means) -> str:
    missing = [
        name
        for name, rate in (("down", means.link.down_bytes_per_s), ("up", means.link.up_bytes_per_s))
        if rate is None
    ]
    if not missing:
        return "" if means.link.basis == "measured" else f"{means.link.basis} link"
    return "transfer not counted" if len(missing) == 2 else f"{missing[0]}load not counted"


def _mib_up(size: int) -> str:
    return f"{math.ceil(size / MIB)}"


def _seconds_up(seconds: float) -> str:
    """Rounded so that what does not fit never reads as if it did."""
    return f"{math.ceil(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"


def _seconds_down(seconds: float) -> str:
    return f"{math.floor(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"
