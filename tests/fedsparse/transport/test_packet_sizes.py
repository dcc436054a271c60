from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.transport.base import publish_packet_bytes, topic_matches


@given(topic=st.text("ab/", min_size=1, max_size=50), size=st.integers(0, 3_000_000))
def test_a_packet_is_its_fixed_header_its_topic_its_id_and_its_payload(
    topic: str, size: int
) -> None:
    remaining = 2 + len(topic) + 2 + size
    digits = max(1, -(-remaining.bit_length() // 7))  # seven bits of length a byte
    assert publish_packet_bytes(topic, size) == 1 + digits + remaining


def test_a_topic_counts_in_utf8() -> None:
    assert publish_packet_bytes("é", 0) == 1 + 1 + 2 + 2 + 2


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("+/+/c", "a/b/c", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_filters_match_as_mqtt_says(topic_filter: str, topic: str, matches: bool) -> None:
    assert topic_matches(topic_filter, topic) is matches
