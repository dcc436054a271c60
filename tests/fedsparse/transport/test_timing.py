"""What a channel sees of how long messages took, with a transport and a clock that tests move."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

import pytest

from fedsparse.body import Body, Bytes
from fedsparse.transport.base import Connected, Disconnected, Event, Published, Received
from fedsparse.transport.channel import Announced, Channel
from fedsparse.transport.options import ChannelOptions
from fedsparse.transport.timing import MOST_AT_ONCE, Transfer, TransferTimer
from fedsparse.wire.frame import Absent
from fedsparse.wire.headers import encode_message, encode_message_head
from fedsparse.wire.messages import Failure, Part, Stage, Task, Update
from fedsparse.wire.topics import Branch, Topics
from fedsparse.wire.transfer import ask_for, encode_chunk

TOPICS = Topics("home")
DIGEST = hashlib.sha256(b"").hexdigest()
OPTIONS = ChannelOptions(inline_bytes=500, chunk_bytes=400, window=2)
BODY = Bytes(bytes(range(256)) * 8)
ABSENT = Absent(digest=BODY.digest, size=BODY.size, chunk_bytes=400)


def update(body: Body) -> Update:
    return Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9, mask_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=body.size),),
    )  # fmt: skip


def task(body: Body) -> Task:
    return Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=body.size),),
    )  # fmt: skip


class Line:
    """A device's channel; what is published waits until the test takes it, at a time it says."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.published: list[tuple[int, int]] = []  # handle, bytes
        self.transfers: list[Transfer] = []
        self._events: deque[Event] = deque()
        self._handles = iter(range(10**6))
        self.channel = Channel(
            self, TOPICS, device="pi", spool=folder, options=OPTIONS,
            clock=lambda: self.now_s, on_transfer=self.transfers.append,
        )  # fmt: skip
        self.channel.start()

    def start(self) -> None: ...
    def close(self) -> None: ...
    def subscribe(self, topic_filter: str) -> None: ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        self.published.append((next(self._handles), len(payload)))
        return self.published[-1][0]

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        return self._events.popleft() if self._events else None

    def happens(self, event: Event, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self._events.append(event)
        while (found := self.channel.poll(0.0)) is not None:
            if isinstance(found, Announced):
                self.channel.accept(found)

    def says(self, payload: bytes, after_s: float = 0.0) -> None:
        """The gateway sends a message."""
        topic = TOPICS.message(Branch.DOWN, "pi")
        self.happens(Received(topic=topic, payload=payload, retained=False), after_s)

    def takes_all(self, each_s: float) -> None:
        """The broker takes what was published, one after the other."""
        taken = 0
        while taken < len(self.published):
            self.happens(Published(handle=self.published[taken][0]), each_s)
            taken += 1

    def chunks(self) -> list[Received]:
        """Of a task with a large body, which is announced."""
        self.says(encode_message_head(task(BODY), ABSENT))
        return [
            Received(
                topic=TOPICS.chunk(Branch.DOWN, "pi", BODY.digest, index),
                payload=encode_chunk(BODY.read(ABSENT.offset(index), 400)),
                retained=False,
            )
            for index in range(ABSENT.count)
        ]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = Line(tmp_path / "spool")
    made.happens(Connected(resumed=True))
    return made


def test_a_message_in_one_piece_is_timed_until_the_broker_has_it(line: Line) -> None:
    line.channel.send(None, Failure(job="watch", round_id=1, reason="x"))
    [(handle, size)] = line.published
    line.happens(Published(handle=handle), after_s=0.25)
    assert line.transfers == [Transfer(sent=True, size_bytes=size, seconds=0.25)]


def test_chunks_are_timed_from_the_first_that_was_asked_for_to_the_last(line: Line) -> None:
    line.channel.send(None, update(BODY), BODY)
    line.takes_all(each_s=0.5)
    line.transfers.clear()
    line.published.clear()
    count = -(-BODY.size // OPTIONS.chunk_bytes)
    line.says(encode_message(ask_for(BODY.digest, range(4))), after_s=30.0)
    line.takes_all(each_s=0.5)
    assert line.transfers == []
    total = sum(size for _, size in line.published)
    line.published.clear()
    line.says(encode_message(ask_for(BODY.digest, range(4, count))), after_s=1.0)
    line.takes_all(each_s=0.5)
    total += sum(size for _, size in line.published)
    assert len(line.published) == count - 4
    assert line.transfers == [Transfer(sent=True, size_bytes=total, seconds=0.5 * count + 1.0)]


def test_what_comes_in_chunks_is_timed_from_the_first_on(line: Line) -> None:
    chunks = line.chunks()
    for chunk in chunks:
        line.happens(chunk, after_s=0.1)
    [transfer] = line.transfers
    assert transfer.size_bytes == sum(len(chunk.payload) for chunk in chunks[1:])
    assert transfer.seconds == pytest.approx(0.1 * (len(chunks) - 1))
    assert not transfer.sent


def test_what_comes_in_one_piece_tells_nothing(line: Line) -> None:
    line.says(encode_message(task(Bytes(b"1234")), b"1234"), after_s=1.0)
    assert line.transfers == []


def test_an_interrupted_transfer_tells_nothing(line: Line) -> None:
    line.channel.send(None, Failure(job="watch", round_id=1, reason="x"))
    first, *others = line.chunks()
    line.happens(first)
    line.happens(Disconnected(reason="gone"), after_s=1.0)
    line.happens(Connected(resumed=True), after_s=60.0)
    line.happens(Published(handle=0), after_s=0.1)
    assert line.transfers == []
    for chunk in others:
        line.happens(chunk, after_s=0.1)
    [transfer] = line.transfers  # of what came on the second connection
    assert transfer.seconds == pytest.approx(0.1 * (len(others) - 1))


def test_what_is_sent_while_the_broker_is_away_tells_nothing(line: Line) -> None:
    line.happens(Disconnected(reason="gone"))
    line.channel.send(None, Failure(job="watch", round_id=1, reason="x"))
    line.channel.send(None, update(BODY), BODY)
    first = [handle for handle, _ in line.published]
    line.happens(Connected(resumed=True), after_s=3600.0)
    for handle in first:
        line.happens(Published(handle=handle), after_s=0.5)
    line.takes_all(each_s=0.5)
    assert all(transfer.seconds < 3600 for transfer in line.transfers)


# Nor does it say anything of how much the link bears


def test_acknowledgements_of_an_interrupted_connection_do_not_slow_down_what_is_sent(
    line: Line,
) -> None:
    line.channel.send(None, update(BODY), BODY)
    line.published.clear()
    line.says(encode_message(ask_for(BODY.digest, [0, 1])))
    before = line.channel._pace.limit_bytes
    first, second = (handle for handle, _ in line.published)
    line.happens(Published(handle=first), after_s=0.01)
    line.happens(Disconnected(reason="gone"))
    line.happens(Connected(resumed=True), after_s=3.0)
    line.happens(Published(handle=second), after_s=0.01)
    assert line.channel._pace.limit_bytes == before


def test_chunks_of_an_interrupted_connection_do_not_slow_down_what_is_asked_for(
    line: Line,
) -> None:
    first, second, *_ = line.chunks()
    before = line.channel._pulls.pace.limit_bytes
    line.happens(first, after_s=0.01)
    line.happens(Disconnected(reason="gone"))
    line.happens(Connected(resumed=True), after_s=3.0)
    line.happens(second, after_s=0.01)
    assert line.channel._pulls.pace.limit_bytes == before


def test_nothing_is_asked_for_while_the_broker_is_away(line: Line) -> None:
    line.happens(Disconnected(reason="gone"))
    line.published.clear()
    line.chunks()
    assert line.published == []
    line.happens(Connected(resumed=True))
    assert len(line.published) == 1


def test_unfinished_transfers_do_not_pile_up() -> None:
    reported: list[Transfer] = []
    now_s = [0.0]
    timer = TransferTimer(reported.append, lambda: now_s[0])
    for key in range(MOST_AT_ONCE + 1):
        timer.sending(key, 10)
    now_s[0] = 2.0
    timer.done(0, sent=True)  # the oldest, which has made room
    assert reported == []
    timer.done(1, sent=True)
    assert reported == [Transfer(sent=True, size_bytes=10, seconds=2.0)]


def test_a_transfer_in_no_time_is_none() -> None:
    reported: list[Transfer] = []
    timer = TransferTimer(reported.append, lambda: 5.0)
    timer.sending("a", 10)
    timer.done("a", sent=True)
    timer.done("never begun", sent=True)
    assert reported == []
