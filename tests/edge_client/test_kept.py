"""What lies in a store may be anything: it is read, or refused with one kind of error."""

from __future__ import annotations

import pytest

from edge_client.budget.correction import Correction
from edge_client.budget.hysteresis import Hold
from edge_client.kept import kept_document
from fedsparse.errors import DataError


def test_what_was_written_is_read() -> None:
    with kept_document('{"version": 3, "size": 4}', "no size", 3) as document:
        assert int(document["size"]) == 4


@pytest.mark.parametrize(
    "text", ["", "rubbish", "[]", "null", "{}", '{"version": 2}', "[" * 100_000]
)
def test_anything_else_is_refused_with_what_it_is_not(text: str) -> None:
    with pytest.raises(DataError, match=r"^no size: "), kept_document(text, "no size", 3):
        pass


@pytest.mark.parametrize("size", ["1e999", '"x"', "[1]", "null"])
def test_what_does_not_fit_inside_is_refused_alike(size: str) -> None:
    text = f'{{"version": 3, "size": {size}}}'
    with pytest.raises(DataError, match=r"^no size: "), kept_document(text, "no size", 3) as found:
        int(found["size"])


def test_an_endless_number_in_the_store_does_not_end_the_agent() -> None:
    hold = Hold(subject="s", level=0.5).to_json()
    assert Hold.from_json(hold).level == 0.5
    with pytest.raises(DataError):
        Hold.from_json(hold.replace('"offers": 0', '"offers": 1e999'))


def test_a_kept_correction_is_read_back() -> None:
    assert Correction.from_json(Correction(calibration="c").to_json()).calibration == "c"
