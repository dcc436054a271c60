"""Every file in tests/attacks/wire is a payload that must be refused, for the reason it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.headers import decode_envelope
from fedsparse.wire.messages import Need
from fedsparse.wire.transfer import asked_for, decode_chunk

ATTACKS = sorted((Path(__file__).parent / "wire").glob("*.hex"))


def decode_need(payload: bytes) -> object:
    """What is asked for, of a body of ten chunks."""
    need, _ = decode_envelope(payload)
    assert isinstance(need, Need)
    return list(asked_for(need, 10))


DECODERS: dict[str, Callable[[bytes], object]] = {
    "message": decode_envelope,
    "head": decode_envelope,
    "need": decode_need,
    "chunk": decode_chunk,
}


def test_there_are_attacks_of_every_kind() -> None:
    assert {path.stem.partition("_")[0] for path in ATTACKS} == set(DECODERS)
    assert len(ATTACKS) > 110


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_the_payload_is_refused_for_the_right_reason(path: Path) -> None:
    comment, _, digits = path.read_text().partition("\n")
    with pytest.raises(RemoteProtocolError) as caught:
        DECODERS[path.stem.partition("_")[0]](bytes.fromhex(digits))
    assert comment.removeprefix("# ") in str(caught.value)
