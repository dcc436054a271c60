"""From when until when a certificate is good, read from its PEM file without any library of keys.

A device looks at the dates of its own certificate (has it expired, is it time for another) and of
the authority's (how late is it at least), and has neither `cryptography` nor memory for it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

BEGIN: Final = "-----BEGIN CERTIFICATE-----"
END: Final = "-----END CERTIFICATE-----"
SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Seconds since 1970, UTC."""

    not_before_s: float
    not_after_s: float

    def share_left(self, now_s: float) -> float:
        """How much of its life is to come: 1 at its begin or before, 0 at its end or after."""
        left_s = (self.not_after_s - now_s) / (self.not_after_s - self.not_before_s)
        return min(1.0, max(0.0, left_s))


def read_validities(pem: str) -> list[Validity]:
    """The dates of every certificate in a PEM file, in its order.

    Raises:
        ValueError: there is none, or one is damaged.
    Source: RFC 5280, section 4.1; RFC 7468, section 5.
    """
    found = [_validity(der) for der in _blocks(pem)]
    if not found:
        raise ValueError(f"no {BEGIN}")
    return found


def _blocks(pem: str) -> Iterator[bytes]:
    for part in pem.split(BEGIN)[1:]:
        text, end, _ = part.partition(END)
        if not end:
            raise ValueError(f"a certificate without {END}")
        try:
            yield base64.b64decode("".join(text.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"a certificate that is not base64: {error}") from error


def _validity(der: bytes) -> Validity:
    """Certificate: tbsCertificate: [version,] serial, algorithm, issuer, validity."""
    (_, certificate), *_ = _items(der)
    (_, tbs), *_ = _items(certificate)
    fields = [one for one in _items(tbs) if one[0] != VERSION]
    if len(fields) < 4 or fields[3][0] != SEQUENCE:
        raise ValueError("a certificate without dates")
    begin, end, *_ = [_seconds(tag, value) for tag, value in _items(fields[3][1])] + [0.0, 0.0]
    if end <= begin:
        raise ValueError("a certificate that ends before it begins")
    return Validity(not_before_s=begin, not_after_s=end)


def _items(der: bytes) -> list[tuple[int, bytes]]:
    """The elements of a DER sequence: tag and content."""
    items, at = [], 0
    while at < len(der):
        if at + 2 > len(der):
            raise ValueError("a certificate that is cut off")
        tag, size, at = der[at], der[at + 1], at + 2
        if size >= 0x80:
            digits = size & 0x7F
            size, at = int.from_bytes(der[at : at + digits], "big"), at + digits
        if at + size > len(der):
            raise ValueError("a certificate that is cut off")
        items.append((tag, der[at : at + size]))
        at += size
    if not items:
        raise ValueError("a certificate that is empty")
    return items


def _seconds(tag: int, value: bytes) -> float:
    text = value.decode("ascii")
    if tag == UTC_TIME:  # two digits: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("a certificate without dates")
    if len(text) != len("20260102030405Z") or not text.endswith("Z") or not text[:-1].isdigit():
        raise ValueError(f"a certificate with the date {text!r}")
    parts = [int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))]
    year, month, day, hour, minute, second = parts
    moment = datetime(year, month, day, hour, minute, tzinfo=timezone.utc)
    return (moment + timedelta(seconds=second)).timestamp()
