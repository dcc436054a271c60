"""What people type: codes and fingerprints, forgiving in form and strict in substance."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import ConfigError
from fedsparse.wire.enrolment_code import (
    ALPHABET,
    Code,
    derive_key,
    fingerprint,
    new_code,
    parse_code,
    parse_fingerprint,
)

CODE = parse_code("AB01-EFGH-JKMN")
characters = st.text(ALPHABET, min_size=12, max_size=12)


@given(characters)
def test_a_code_that_is_shown_is_read_again(text: str) -> None:
    code = Code(code_id=text[:4], secret=text[4:])
    assert parse_code(str(code)) == code
    assert len(str(code)) == 14


@pytest.mark.parametrize(
    "typed",
    ["AB01-EFGH-JKMN", "ab01efghjkmn", " ab01 efgh jkmn\n", "ABO1-EFGH-JKMN", "AB0L-EFGH-JKMN",
     "aboi-efgh-jkmn"],
)  # fmt: skip
def test_a_code_may_be_typed_in_many_ways(typed: str) -> None:
    assert parse_code(typed) == CODE


@pytest.mark.parametrize(
    "typed", ["", "AB01-EFGH-JKM", "AB01-EFGH-JKMNP", "AB01-EFGH-JKMU", "äB01-EFGH-JKMN"]
)
def test_what_is_no_code_is_refused_without_being_repeated(typed: str) -> None:
    with pytest.raises(ConfigError, match="identity token DEVICE") as caught:
        parse_code(typed)
    assert not typed or typed not in str(caught.value)


def test_the_secret_of_a_code_is_in_no_repr() -> None:
    assert CODE.secret not in repr(CODE)


def test_codes_are_drawn_anew_and_their_ids_not_among_those_in_use() -> None:
    codes = [new_code() for _ in range(50)]
    assert len({str(code) for code in codes}) == 50
    assert {len(code.secret) for code in codes} == {8}
    taken = [a + b + "00" for a in ALPHABET for b in ALPHABET]
    assert all(new_code(id_taken=taken).code_id not in taken for _ in range(300))


def test_the_key_depends_on_everything_that_the_code_is_for() -> None:
    key = derive_key(CODE, site="home", device="cam-01")
    # pinned: a device and a gateway of different builds must agree
    assert key.hex() == "6b69ab4d4811df54112975f939741812dae72e483ca1650b89722990f04dc3a5"
    others = [
        derive_key(CODE, site="home", device="cam-02"),
        derive_key(CODE, site="away", device="cam-01"),
        derive_key(parse_code("AB02-EFGH-JKMN"), site="home", device="cam-01"),
        derive_key(parse_code("AB01-EFGH-JKMP"), site="home", device="cam-01"),
    ]
    assert len({key, *others}) == 5


def test_both_fingerprints_match_their_certificate_and_no_other() -> None:
    der, other = b"a certificate", b"another"
    for text in (
        fingerprint(der),
        fingerprint(der).lower().replace("-", " "),
        hashlib.sha256(der).hexdigest(),
        hashlib.sha256(der).hexdigest().upper(),
        hashlib.sha256(der).digest().hex(":"),
    ):
        assert parse_fingerprint(text).matches(der)
        assert not parse_fingerprint(text).matches(other)
    assert len(fingerprint(der)) == 19


def test_the_short_fingerprint_is_the_first_eighty_bits() -> None:
    digits = fingerprint(b"x").replace("-", "")
    number = 0
    for digit in digits:
        number = number * 32 + ALPHABET.index(digit)
    assert number.to_bytes(10, "big") == hashlib.sha256(b"x").digest()[:10]


@pytest.mark.parametrize("text", ["", "abc", 63 * "a", 65 * "a", 64 * "g", "ABCD-EFGH-JKMN-PQRU"])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        parse_fingerprint(text)
