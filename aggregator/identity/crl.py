"""Revocation lists: which certificates the broker is to refuse although their time is not over.

A broker takes a list only where its `thisUpdate`, in whole seconds, is later than that of the list
which it has (OpenSSL keeps the later one of two). And it refuses everybody where that lies ahead of
its clock, or `nextUpdate` is past. So each list begins an hour before it is made, or one second
after the last, whichever is later: two within one second differ, and neither lies ahead.

Source: RFC 5280, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from aggregator.identity.authority import Authority

LIST_LIFE: Final = timedelta(days=14)
REISSUED_AFTER: Final = timedelta(days=1)
BACKDATED: Final = timedelta(hours=1)
TICK: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One certificate that is no longer good.

    Attributes:
        serial: its number.
        at: since when.
    """

    serial: int
    at: datetime


def this_update(last: datetime | None, now: datetime) -> datetime:
    """When the next list is to begin; whole seconds, never later than `now`.

    Args:
        last: when the last one began; None before the first. One that lies ahead of `now`, because
            the clock went back, does not count: a running broker then keeps the older list until it
            is started again, which whoever publishes the list notices by trying.
        now: the time.
    """
    earliest = (now - BACKDATED).replace(microsecond=0)
    if last is None or last + TICK > now:
        return earliest
    return max(earliest, last + TICK)


def build_list(
    authority: Authority,
    revoked: Iterable[Revoked],
    *,
    number: int,
    begins: datetime,
    now: datetime,
) -> x509.CertificateRevocationList:
    """Sign a list.

    Args:
        authority: whose certificates these are.
        revoked: all that are not good although their time is not over.
        number: greater than that of every list before.
        begins: its `thisUpdate`.
        now: the time; it holds for `LIST_LIFE` from then.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .last_update(begins)
        .next_update(now + LIST_LIFE)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at)
        builder = builder.add_revoked_certificate(entry.build())
    return authority.sign_list(builder)
