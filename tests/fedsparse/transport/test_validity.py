"""The dates of certificates, against what a library of keys reads."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from certificates import DAY, Authority, now
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.transport.validity import BEGIN, END, Validity, read_validities


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=timezone.utc), now()),
        (now(), datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
        (now(), datetime(2050, 1, 1, tzinfo=timezone.utc)),  # written in another form from here on
        (datetime(1950, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, tzinfo=timezone.utc)),
    ],
)
def test_dates_are_what_a_library_reads(tmp_path: Path, begins: datetime, ends: datetime) -> None:
    pair = Authority(tmp_path).sign("pi", begins=begins, ends=ends)
    text = pair.certificate.read_text()
    wanted = x509.load_pem_x509_certificate(text.encode())
    assert read_validities(text) == [
        Validity(
            not_before_s=wanted.not_valid_before_utc.timestamp(),
            not_after_s=wanted.not_valid_after_utc.timestamp(),
        )
    ]


def test_a_file_with_several_certificates_gives_the_dates_of_all(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    text = authority.ca.read_text() + "a comment\n" + authority.sign("pi").certificate.read_text()
    ca, own = read_validities(text)
    assert ca.not_after_s > own.not_after_s


def test_the_share_of_its_life_that_is_left() -> None:
    validity = Validity(not_before_s=1000.0, not_after_s=2000.0)
    moments = (0.0, 1000.0, 1250.0, 2000.0, 9000.0)
    assert [validity.share_left(one) for one in moments] == [1.0, 1.0, 0.75, 0.0, 0.0]


@given(st.text(max_size=200) | st.text("MIIBcz0=\n", max_size=99).map(lambda t: BEGIN + t + END))
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"certificate|CERTIFICATE"):
        read_validities(text)


def test_every_damaged_certificate_is_refused_or_read(tmp_path: Path) -> None:
    """Cut off anywhere, and with any byte replaced: never another exception."""
    pair = Authority(tmp_path).sign("pi", ends=now() + timedelta(days=90))
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    refused = 0
    for at in range(len(der)):
        for mutant in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            try:
                read_validities(pem(mutant))
            except ValueError:
                refused += 1
    assert refused > len(der)


def pem(der: bytes) -> str:
    return f"{BEGIN}\n{base64.b64encode(der).decode()}\n{END}\n"


def test_the_authority_is_older_than_what_it_signs(tmp_path: Path) -> None:
    authority = Authority(tmp_path, begins=now() - 40 * DAY)
    (ca,) = read_validities(authority.ca.read_text())
    assert ca.share_left(now().timestamp()) == pytest.approx(1 - 40 / 3650, abs=1e-3)
