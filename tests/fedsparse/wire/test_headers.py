from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from message_strategies import EXAMPLES, HEADS, body_of, digest, messages

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.frame import Absent, encode_frame
from fedsparse.wire.headers import (
    KEYS,
    KINDS,
    decode_envelope,
    decode_message,
    encode_message,
    encode_message_head,
    from_header,
    split_parts,
    to_header,
)
from fedsparse.wire.messages import Evaluation, Message, Need, Part, Ready, Task, Update


@given(messages)
def test_every_message_survives_the_way(message: Message) -> None:
    body = body_of(message)
    decoded, received = decode_message(encode_message(message, body))
    assert decoded == message
    assert bytes(received) == body


@given(messages)
def test_encoding_is_deterministic(message: Message) -> None:
    again = dataclasses.replace(message)
    assert encode_message(again, body_of(message)) == encode_message(message, body_of(message))


def test_every_kind_of_message_has_a_golden_example() -> None:
    assert {type(message) for message in EXAMPLES.values()} == set(KINDS.values())


def test_every_field_has_a_short_key_of_its_own() -> None:
    used = {
        f.name for kind in (*KINDS.values(), Part, Evaluation) for f in dataclasses.fields(kind)
    }
    assert used == set(KEYS)
    assert len(set(KEYS.values())) == len(KEYS)
    assert max(map(len, KEYS.values())) <= 2


def test_the_headers_of_a_round_are_small() -> None:
    kinds = ("offer", "ready", "task", "update", "receipt")
    frames = [encode_message(EXAMPLES[kind], body_of(EXAMPLES[kind])) for kind in kinds]
    assert sum(map(len, frames)) - 15 - 12 < 1_400  # without the two bodies


def test_fields_that_equal_their_defaults_are_left_out() -> None:
    assert set(to_header(Need(what="mask"))) == {KEYS["what"]}


def test_unknown_fields_are_ignored() -> None:
    header = {**to_header(EXAMPLES["receipt"]), "zz": {"new": [1]}}
    assert decode_message(encode_frame(7, header))[0] == EXAMPLES["receipt"]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_required_field_that_is_missing_is_named(name: str) -> None:
    message = EXAMPLES[name]
    required = [f.name for f in dataclasses.fields(message) if f.default is dataclasses.MISSING]
    assert required
    for field in required:
        header = to_header(message)
        del header[KEYS[field]]
        with pytest.raises(
            RemoteProtocolError, match=f"{type(message).__name__} without '{field}'"
        ):
            from_header(type(message), header)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_field_of_the_wrong_type_is_named(name: str) -> None:
    message = EXAMPLES[name]
    for field in dataclasses.fields(message):
        for wrong in ({"a": 1}, [[[]]], -1.5, "x" * 401, b"short"):
            good = getattr(message, field.name)
            if type(wrong) is type(good):
                continue
            header = {**to_header(message), KEYS[field.name]: wrong}
            with pytest.raises(RemoteProtocolError, match=type(message).__name__):
                from_header(type(message), header)


def test_a_number_is_neither_a_boolean_nor_the_reverse() -> None:
    for name, field, wrong in (
        ("receipt", "round_id", True),
        ("status", "online", 1),
        ("ready", "level", 1),
        ("offer", "levels", [1]),
    ):
        message = EXAMPLES[name]
        with pytest.raises(RemoteProtocolError, match=field):
            from_header(type(message), {**to_header(message), KEYS[field]: wrong})


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("offer_codecs", "down_codec", "x" * 33),
        ("offer_codecs", "up_codec", "x" * 33),
        ("task", "seconds_left", float("nan")),
        ("task", "learning_rate", float("inf")),
        ("task", "power", 0.5),
        ("task", "power", float("nan")),
        ("task", "power", 8.5),
        ("offer", "steps", 0),
        ("update", "loss", float("nan")),
        ("update", "num_examples", 0),
        ("update", "level", 1.5),
        ("offer", "stage", "launch"),
        ("offer", "job", "../../etc"),
        ("offer", "levels", [0.1, 0.2]),
        ("offer", "plan_digest", b"\0" * 31),
        ("status", "device", "a/b"),
        ("ready", "held", [b""]),
        ("need_chunks", "first", -1),
        ("need_chunks", "first", 2**20),
        ("need_chunks", "first", 1.0),
        ("need_chunks", "missing", bytes(8_193)),
        ("need_chunks", "missing", "x"),
        ("need_chunks", "transfer", bytes(31)),
        ("need_chunks", "what", "everything"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, field: str, wrong: Any) -> None:  # noqa: ANN401
    message = EXAMPLES[name]
    with pytest.raises(RemoteProtocolError, match=type(message).__name__):
        from_header(type(message), {**to_header(message), KEYS[field]: wrong})


def test_a_nested_fault_is_traced_to_its_field() -> None:
    header = to_header(EXAMPLES["update"])
    header[KEYS["evaluation"]] = {KEYS["correct"]: 3, KEYS["count"]: 2, KEYS["loss_sum"]: 0.0}
    with pytest.raises(RemoteProtocolError, match=r"Update\.evaluation: Evaluation: 3 of 2"):
        from_header(Update, header)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="kind 200"):
        decode_message(encode_frame(200, {}))


def test_parts_must_fill_the_body_exactly() -> None:
    task = EXAMPLES["task"]
    body = body_of(task)
    for wrong in (body[:-1], body + b"x", b""):
        with pytest.raises(LocalProtocolError, match="parts of 15 bytes in a body"):
            encode_message(task, wrong)
        with pytest.raises(RemoteProtocolError, match="parts of 15 bytes in a body"):
            decode_message(encode_frame(4, to_header(task), wrong))


def test_a_message_without_parts_has_no_body() -> None:
    with pytest.raises(RemoteProtocolError, match="parts of 0 bytes in a body of 1"):
        decode_message(encode_frame(7, to_header(EXAMPLES["receipt"]), b"x"))


def test_two_parts_of_one_name_are_refused() -> None:
    part = Part(name="mask", codec="bits", size=1)
    twice = dataclasses.replace(EXAMPLES["task"], parts=(part, part))  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="two parts of one name"):
        encode_message(twice, b"xx")


def test_the_parts_of_a_body_are_found_by_name() -> None:
    task = EXAMPLES["task"]
    assert isinstance(task, Task)
    pieces = split_parts(task.parts, memoryview(body_of(task)))
    assert {name: bytes(piece) for name, (_, piece) in pieces.items()} == {
        "mask": b"\1" * 3,
        "values": b"\2" * 12,
    }
    assert pieces["mask"][0].base == digest("mask 0")
    with pytest.raises(RemoteProtocolError, match="parts of 15 bytes"):
        split_parts(task.parts, b"")


def test_a_declined_offer_carries_no_level() -> None:
    header = to_header(EXAMPLES["ready_declined"])
    assert header[KEYS["level"]] is None
    assert from_header(Ready, header).level is None


@given(messages)
def test_every_message_that_has_a_body_survives_the_way_as_a_head(message: Message) -> None:
    body = body_of(message)
    if not body:
        return
    absent = Absent(digest=digest("body"), size=len(body), chunk_bytes=7)
    assert decode_envelope(encode_message_head(message, absent)) == (message, absent)


@given(messages)
def test_a_frame_with_its_body_is_read_as_such(message: Message) -> None:
    body = body_of(message)
    assert decode_envelope(encode_message(message, body)) == (message, memoryview(body))


@pytest.mark.parametrize("name", sorted(HEADS))
@pytest.mark.parametrize("more", [-1, 1])
def test_the_parts_must_fill_the_body_of_a_head(name: str, more: int) -> None:
    message, absent = HEADS[name]
    wrong = dataclasses.replace(absent, size=absent.size + more)
    with pytest.raises(LocalProtocolError, match=f"in a body of {wrong.size}"):
        encode_message_head(message, wrong)
    good, bad = (encode_frame(message.KIND, {**to_header(message), **keys}) for keys in (
        {"sha256": bytes(32), "bz": absent.size, "cb": 40_000},
        {"sha256": bytes(32), "bz": wrong.size, "cb": 40_000},
    ))  # fmt: skip
    assert decode_envelope(good)[0] == message
    with pytest.raises(RemoteProtocolError, match=f"in a body of {wrong.size}"):
        decode_envelope(bad)


def test_a_head_of_a_message_without_parts_is_refused() -> None:
    keys = {"sha256": bytes(32), "bz": 1, "cb": 1}
    with pytest.raises(RemoteProtocolError, match="parts of 0 bytes in a body of 1"):
        decode_envelope(encode_frame(7, {**to_header(EXAMPLES["receipt"]), **keys}))


def test_a_head_is_no_whole_message() -> None:
    with pytest.raises(RemoteProtocolError, match="a Task without its body"):
        decode_message(encode_message_head(*HEADS["head_task"]))
