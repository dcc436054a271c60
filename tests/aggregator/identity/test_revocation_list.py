from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from hypothesis import given
from hypothesis.strategies import datetimes, lists, timedeltas

from aggregator.identity.authority import Authority
from aggregator.identity.crl import LIST_LIFE, Revoked, build_list, this_update

NOW = datetime(2026, 5, 4, 12, 0, 0, 250_000, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def test_a_list_names_what_is_revoked_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "plant", NOW)
    gone = [Revoked(serial=serial, at=NOW) for serial in (7, 2**150)]
    begins = this_update(None, NOW)
    made = build_list(authority, gone, number=3, begins=begins, now=NOW)
    assert made.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
    assert made.issuer == authority.certificate.subject
    assert sorted(one.serial_number for one in made) == [7, 2**150]
    assert made.last_update_utc == begins
    assert made.next_update_utc == (NOW + LIST_LIFE).replace(microsecond=0)
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "plant", NOW)
    made = build_list(authority, [], number=1, begins=this_update(None, NOW), now=NOW)
    assert list(made) == []


@given(
    start=datetimes(datetime(2024, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 (see below)
    pauses=lists(timedeltas(timedelta(0), timedelta(days=2)), min_size=1, max_size=50),
)
def test_every_list_begins_in_a_later_second_than_the_one_before_and_never_ahead(
    start: datetime, pauses: list[timedelta]
) -> None:
    now, last = start.replace(tzinfo=timezone.utc), None
    for pause in pauses:
        now += pause
        begins = this_update(last, now)
        assert begins <= now
        assert begins.microsecond == 0
        assert last is None or begins >= last + SECOND
        last = begins


def test_a_clock_that_went_back_does_not_make_a_list_of_the_future() -> None:
    ahead = NOW + timedelta(days=400)
    assert this_update(ahead, NOW) <= NOW
