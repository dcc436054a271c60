"""From when until when certificates are good, and what this machine's clock makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedsparse.doctor.moment import days, moment
from fedsparse.doctor.row import Row, fail, ok, warn
from fedsparse.transport.validity import Validity, read_validities

SHARE_LEFT: Final = 1 / 4  # renewal is due at a third: what has less was not renewed


def certificate_row(name: str, path: Path, now_s: float, renew: str) -> Row:
    """The dates of the first certificate in a file.

    Args:
        name: of the check.
        path: PEM.
        now_s: the time, in seconds since 1970.
        renew: how it is renewed.
    """
    try:
        dates = read_validities(path.read_text(encoding="ascii"))[0]
    except (OSError, ValueError) as error:
        return fail(name, f"{path}: not a certificate in PEM form ({error})", renew)
    return validity_row(name, dates, now_s, renew)


def validity_row(name: str, dates: Validity, now_s: float, renew: str) -> Row:
    """Whether a certificate is good now, and for how long."""
    left = days(dates.not_after_s - now_s)
    if now_s > dates.not_after_s:
        return fail(name, f"expired on {moment(dates.not_after_s)}", renew)
    if now_s < dates.not_before_s:
        return fail(
            name,
            f"not valid before {moment(dates.not_before_s)}, and it is {moment(now_s)} here",
            "set this clock: timedatectl set-ntp true",
        )
    value = f"good until {moment(dates.not_after_s)} ({left} left)"
    return warn(name, value, renew) if dates.share_left(now_s) < SHARE_LEFT else ok(name, value)


def clock_row(now_s: float, floor_s: float) -> Row:
    """The system's clock against a moment that has passed for certain.

    Args:
        now_s: what it says, in seconds since 1970.
        floor_s: that moment; 0 where none is known.
    """
    if now_s < floor_s:
        return warn(
            "clock",
            f"{moment(now_s)}, but it was {moment(floor_s)} already: dates are not checked",
            "set it: timedatectl set-ntp true",
        )
    known = f"; it was {moment(floor_s)} at least" if floor_s else "; nothing to compare it with"
    return ok("clock", f"{moment(now_s)}{known}")
