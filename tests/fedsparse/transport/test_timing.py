"""What a channel sees of how long messages took, with a transport and a clock that tests move."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

import pytest

from fedsparse.transport.base import Connected, Disconnected, Event, Published, Received
from fedsparse.transport.channel import Channel, ChannelOptions
from fedsparse.transport.timing import MOST_AT_ONCE, Transfer, TransferTimer
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Failure, Message, Part, Stage, Task, Update
from fedsparse.wire.topics import Branch, Topics
from fedsparse.wire.transfer import Outgoing

TOPICS = Topics("home")
DIGEST = hashlib.sha256(b"").hexdigest()
OPTIONS = ChannelOptions(inline_bytes=500, chunk_bytes=400, window=2)
BODY = bytes(range(256)) * 8


def update(body: bytes) -> Update:
    return Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9, mask_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=len(body)),),
    )  # fmt: skip


def task(body: bytes) -> Task:
    return Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=len(body)),),
    )  # fmt: skip


class Line:
    """A device's channel; what is published waits until the test takes it, at a time it says."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.published: list[tuple[int, int]] = []  # handle, bytes
        self.transfers: list[Transfer] = []
        self._events: deque[Event] = deque()
        self.channel = Channel(
            self, TOPICS, device="pi", spool=folder, options=OPTIONS,
            clock=lambda: self.now_s, on_transfer=self.transfers.append,
        )  # fmt: skip
        self.channel.start()

    def start(self) -> None: ...
    def close(self) -> None: ...
    def subscribe(self, topic_filter: str) -> None: ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        self.published.append((len(self.published), len(payload)))
        return len(self.published) - 1

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        return self._events.popleft() if self._events else None

    def happens(self, event: Event, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self._events.append(event)
        while self.channel.poll(0.0) is not None:
            pass

    def takes_all(self, each_s: float) -> None:
        """The broker takes what was published, one after the other."""
        taken = 0
        while taken < len(self.published):
            self.happens(Published(handle=self.published[taken][0]), each_s)
            taken += 1

    def chunks(self, message: Message, body: bytes) -> list[Received]:
        outgoing = Outgoing([encode_message(message, body)], chunk_bytes=400, window=100)
        return [
            Received(
                topic=TOPICS.chunk(Branch.DOWN, "pi", outgoing.transfer, index),
                payload=frame,
                retained=False,
            )
            for index, frame in outgoing.next_chunks()
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


def test_a_message_in_chunks_is_timed_as_a_whole(line: Line) -> None:
    line.channel.send(None, update(BODY), BODY)
    line.takes_all(each_s=0.5)
    total = sum(size for _, size in line.published)
    assert len(line.published) > 3
    assert line.transfers == [
        Transfer(sent=True, size_bytes=total, seconds=0.5 * len(line.published))
    ]


def test_what_comes_in_chunks_is_timed_from_the_first_on(line: Line) -> None:
    chunks = line.chunks(task(BODY), BODY)
    for chunk in chunks:
        line.happens(chunk, after_s=0.1)
    [transfer] = line.transfers
    assert transfer.size_bytes == sum(len(chunk.payload) for chunk in chunks[1:])
    assert transfer.seconds == pytest.approx(0.1 * (len(chunks) - 1))
    assert not transfer.sent


def test_what_comes_in_one_piece_tells_nothing(line: Line) -> None:
    frame = encode_message(task(b"1234"), b"1234")
    topic = TOPICS.message(Branch.DOWN, "pi")
    line.happens(Received(topic=topic, payload=frame, retained=False), after_s=1.0)
    assert line.transfers == []


def test_an_interrupted_transfer_tells_nothing(line: Line) -> None:
    line.channel.send(None, Failure(job="watch", round_id=1, reason="x"))
    first, *others = line.chunks(task(BODY), BODY)
    line.happens(first)
    line.happens(Disconnected(reason="gone"), after_s=1.0)
    line.happens(Connected(resumed=True), after_s=3600.0)
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
