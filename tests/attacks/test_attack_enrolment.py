"""Every file in tests/attacks/enrolment must be refused, for the reason that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.enrolment import decode_claim, request_topic

ATTACKS = sorted((Path(__file__).parent / "enrolment").glob("*.hex"))


def test_there_are_attacks_on_the_enrolment() -> None:
    assert len(ATTACKS) > 35


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_the_request_or_answer_is_refused_for_the_right_reason(path: Path) -> None:
    comment, _, digits = path.read_text().partition("\n")
    with pytest.raises(RemoteProtocolError) as caught:
        decode_claim(request_topic(32 * "0"), bytes.fromhex(digits))
    assert comment.removeprefix("# ") in str(caught.value)
