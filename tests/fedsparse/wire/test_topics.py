from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from message_strategies import digest, names

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.transport.base import topic_matches
from fedsparse.wire.topics import Address, Branch, Topics

TRANSFER = digest("frame")
BAD_NAMES = [
    "",
    "+",
    "#",
    "a/b",
    "..",
    ".hidden",
    "-flag",
    "a b",
    "ä",
    "x" * 65,
    "a\n",
    "a\0",
]


def test_topics_are_spelled_as_the_contract_says() -> None:
    topics = Topics("home")
    assert topics.round == "fl/v1/home/all/round"
    assert topics.status("pi") == "fl/v1/home/up/pi/status"
    assert topics.message(Branch.UP, "pi") == "fl/v1/home/up/pi/message"
    assert topics.message(Branch.DOWN, "pi") == "fl/v1/home/down/pi/message"
    assert topics.chunk(Branch.UP, "pi", TRANSFER, 7) == f"fl/v1/home/up/pi/chunk/{TRANSFER}/7"


@given(site=names, device=names, index=st.integers(0, 999_999))
def test_every_topic_is_read_back_as_it_was_built(site: str, device: str, index: int) -> None:
    topics = Topics(site)
    assert topics.parse(topics.round) == Address(branch=Branch.ROUND)
    assert topics.parse(topics.status(device)) == Address(branch=Branch.STATUS, device=device)
    for branch in (Branch.UP, Branch.DOWN):
        address = Address(branch=branch, device=device)
        assert topics.parse(topics.message(branch, device)) == address
        chunk = Address(branch=branch, device=device, transfer=TRANSFER, index=index)
        assert topics.parse(topics.chunk(branch, device, TRANSFER, index)) == chunk


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_topic_can_hold_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="site"):
        Topics(name)
    with pytest.raises(LocalProtocolError, match="device"):
        Topics("home").status(name)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "fl/v1/home",
        "fl/v1/away/up/pi/message",
        "fl/v2/home/up/pi/message",
        "fl/v1/home/up/../message",
        "fl/v1/home/up/pi/message/more",
        "fl/v1/home/down/pi/status",
        "fl/v1/home/sideways/pi/message",
        "fl/v1/home/all/rounds",
        f"fl/v1/home/up/pi/chunk/{TRANSFER}/-1",
        f"fl/v1/home/up/pi/chunk/{TRANSFER}/01",
        f"fl/v1/home/up/pi/chunk/{TRANSFER}/1000000",
        f"fl/v1/home/up/pi/chunk/{TRANSFER[:-1]}/1",
        f"fl/v1/home/up/pi/chunk/{TRANSFER.upper()}/1",
        "fl/v1/homeX/up/pi/message",
    ],
)
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(RemoteProtocolError, match="site 'home'"):
        Topics("home").parse(topic)


def test_a_chunk_of_no_transfer_has_no_topic() -> None:
    with pytest.raises(LocalProtocolError, match="chunk"):
        Topics("home").chunk(Branch.UP, "pi", "../etc", 0)


def test_round_and_status_have_no_message_topic() -> None:
    with pytest.raises(LocalProtocolError, match="STATUS"):
        Topics("home").message(Branch.STATUS, "pi")


def test_each_topic_matches_exactly_one_filter_of_its_reader_and_none_of_others() -> None:
    topics = Topics("home")
    up = [topics.status("pi"), topics.message(Branch.UP, "pi")]
    up.append(topics.chunk(Branch.UP, "pi", TRANSFER, 3))
    down = [topics.round, topics.message(Branch.DOWN, "pi")]
    down.append(topics.chunk(Branch.DOWN, "pi", TRANSFER, 3))

    def hits(filters: tuple[str, ...], topic: str) -> int:
        return sum(topic_matches(one, topic) for one in filters)

    assert [hits(topics.gateway_filters(), topic) for topic in up + down] == [1, 1, 1, 0, 0, 0]
    assert [hits(topics.device_filters("pi"), topic) for topic in up + down] == [0, 0, 0, 1, 1, 1]
    assert [hits(topics.device_filters("other"), topic) for topic in down] == [1, 0, 0]
