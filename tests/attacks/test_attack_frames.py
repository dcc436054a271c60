"""Every file in tests/attacks/wire is a payload that must be refused, for the reason it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.headers import decode_message
from fedsparse.wire.transfer import decode_chunk

ATTACKS = sorted((Path(__file__).parent / "wire").glob("*.hex"))


def test_there_are_attacks() -> None:
    assert len(ATTACKS) > 60


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_the_payload_is_refused_for_the_right_reason(path: Path) -> None:
    comment, _, digits = path.read_text().partition("\n")
    decode = decode_chunk if path.stem.startswith("chunk_") else decode_message
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes.fromhex(digits))
    assert comment.removeprefix("# ") in str(caught.value)
