"""Messages over a transport: what the agent and the aggregator see of the network.

Large messages travel in chunks with a small window, so that control messages pass between them;
missing chunks are asked for and sent again here. Nothing that a peer sends can raise: what breaks
the contract is dropped, counted, and reported as `Rejected`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

from fedsparse.errors import LocalProtocolError, RemoteProtocolError, TransportError
from fedsparse.transport.base import (
    Connected,
    Disconnected,
    Event,
    Published,
    Received,
    Transport,
    Will,
    publish_packet_bytes,
)
from fedsparse.transport.outbox import Outbox
from fedsparse.transport.pace import Pace
from fedsparse.transport.timing import Transfer, TransferTimer
from fedsparse.wire.headers import decode_message, encode_message, encode_message_head
from fedsparse.wire.messages import (
    Failure,
    LastDecision,
    Message,
    Need,
    Offer,
    Ready,
    Receipt,
    Status,
    Task,
    Update,
)
from fedsparse.wire.reassembly import Limits, Reassembly
from fedsparse.wire.topics import Address, Branch, Topics
from fedsparse.wire.transfer import Outgoing, decode_chunk

TICK_S: Final = 1.0  # how often stalled transfers are looked for, and the longest wait of `poll`
GOODBYE_S: Final = 2.0
MAX_PEERS: Final = 10_000  # that send in chunks: names are easily invented
MAX_PAYLOAD_BYTES: Final = 1024 * 1024  # of one MQTT message; anything larger comes in chunks

ALLOWED: Final[dict[Branch, tuple[type[Message], ...]]] = {
    Branch.STATUS: (Status,),
    Branch.UP: (Ready, Update, Failure, Need),
    Branch.DOWN: (Task, Receipt, Need),
    Branch.ROUND: (Offer,),
}
IN_FLIGHT_DIVISOR: Final = 25  # of a transfer, 4 % are in flight at most
LEAST_CHUNK_BYTES: Final = 16 * 1024  # smaller ones would cost more than a cut does
RETAINED: Final = (Branch.STATUS, Branch.ROUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """Sizes and bounds; sender and receiver need not agree on them.

    Attributes:
        inline_bytes: the largest frame that is sent whole.
        chunk_bytes: the largest payload of a chunk: others wait for one at least.
        window: chunks of the smallest transfers in flight at most.
        in_flight_bytes: of all transfers together, however fast the link.
        limits: of what a peer may have open here.
    """

    inline_bytes: int = 64 * 1024
    chunk_bytes: int = 64 * 1024
    window: int = 4
    in_flight_bytes: int = 16 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        largest = MAX_PAYLOAD_BYTES - 1024  # a chunk's header is smaller than that
        if not 0 < self.inline_bytes <= MAX_PAYLOAD_BYTES or not 0 < self.chunk_bytes <= largest:
            raise ValueError(f"inline_bytes and chunk_bytes must be 1 to {largest}")
        if self.window < 1 or self.in_flight_bytes < 1:
            raise ValueError("window and in_flight_bytes must be at least 1")

    def cut(self, size_bytes: int) -> tuple[int, int]:
        """How a frame is cut: the payload of its chunks, and how many are in flight at most.

        4 % of it may be in flight, so that a lost connection costs little. It follows from the size
        alone: who sends it again, after a restart too, sends the same chunks.
        """
        in_flight = size_bytes // IN_FLIGHT_DIVISOR
        chunk = min(self.chunk_bytes, max(LEAST_CHUNK_BYTES, in_flight // self.window))
        return chunk, max(self.window, in_flight // chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A good message; it may come twice.

    Attributes:
        device: who sent it, or on a device its own name; empty for an offer.
        message, body: its content; `split_parts` takes the body apart.
        frame: the whole of it, as `decode_message` reads it.
        retained: whether the broker had kept it for us.
    """

    device: str
    message: Message
    body: memoryview = field(repr=False)
    frame: bytes = field(repr=False)
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Something broke the contract, and was dropped."""

    device: str
    reason: str


ChannelEvent = Connected | Disconnected | Delivered | Rejected


@dataclass(slots=True)
class Traffic:
    """Bytes of whole PUBLISH packets, both ways, since the channel was built."""

    sent_bytes: int = 0
    received_bytes: int = 0


class Channel:
    """One end of the contract; used from one thread.

    Args:
        transport: not started; its will should be `status_will(...)` on a device.
        topics: the fleet.
        device: whose end this is; empty for the gateway's.
        spool: folder for the chunks of open transfers.
        status: of a device: announced, retained, after every connect; offline on `close`.
        options: sizes and bounds.
        clock: seconds, monotonic.
        on_transfer: is told how long messages took, where that can be seen: those that are sent,
            until the broker has taken them, and those that come in chunks, from the first one on.

    Attributes:
        traffic: by device; the offers to everyone are under the empty name.
        rejected: number of dropped payloads, by device.
    """

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        *,
        device: str = "",
        spool: Path,
        status: Status | None = None,
        options: ChannelOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_transfer: Callable[[Transfer], None] = lambda _: None,
    ) -> None:
        self.traffic: dict[str, Traffic] = defaultdict(Traffic)
        self.rejected: Counter[str] = Counter()
        self._transport = transport
        self._topics = topics
        self._device = device
        self._spool = spool
        self._status = status
        self._options = options or ChannelOptions()
        self._clock = clock
        self._events: deque[ChannelEvent] = deque()
        self._outbox = Outbox(self._options.limits)
        self._chunks: dict[int, tuple[str, str, int]] = {}  # handle -> peer, transfer, index
        self._pace = Pace(clock, self._options.in_flight_bytes)
        self._unacknowledged: set[int] = set()
        self._peers: dict[str, Reassembly] = {}
        self._next_tick_s = clock() + TICK_S
        self._connected = False
        self._announced = True
        self._timer = TransferTimer(on_transfer, clock)

    def start(self) -> None:
        """Subscribe and connect.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us; try again later.
        """
        self._spool.mkdir(parents=True, exist_ok=True)
        filters = self._topics.gateway_filters()
        if self._device:
            filters = self._topics.device_filters(self._device)
        for topic_filter in filters:
            self._transport.subscribe(topic_filter)
        self._transport.start()

    def send(self, device: str | None, message: Message, body: bytes = b"") -> None:
        """Send a message; what is retained and what is chunked follows from the message.

        Args:
            device: to whom; None on a device (to the gateway) and for an offer (to everyone).
            message: any that this end of the contract sends.
            body: the bytes of its parts; not copied where it is sent in chunks.

        Raises:
            LocalProtocolError: a message that this end does not send, or parts that do not fit.
            TransportError: too much waits for the broker already.
        """
        branch = self._branch_of(message)
        peer = "" if branch is Branch.ROUND else device or self._device
        head = encode_message_head(message, body)
        if len(head) + len(body) <= self._options.inline_bytes or branch in RETAINED:
            frame = head + body
            topic = self._topic(branch, peer)
            handle = self._publish(peer, topic, frame, retain=branch in RETAINED)
            if self._connected:
                self._timer.sending(handle, len(frame))
        else:
            chunk_bytes, window = self._options.cut(len(head) + len(body))
            outgoing = Outgoing((head, body), chunk_bytes=chunk_bytes, window=window)
            self._outbox.put(peer, outgoing, self._clock())
            self._pump()

    def announce(self, decision: LastDecision) -> None:
        """Say in a device's status what it decided, now and after every connect.

        Raises:
            LocalProtocolError: this end has no status.
            TransportError: too much waits for the broker already.
        """
        if self._status is None:
            raise LocalProtocolError("the gateway has no status")
        self._status = dataclasses.replace(self._status, decision=decision)
        if self._connected:
            self.send(None, self._status)

    def poll(self, timeout_s: float, *, hold: bool = False) -> ChannelEvent | None:
        """The next event; None when nothing came within `timeout_s`, or within a second.

        Args:
            timeout_s: how long to wait.
            hold: what came before is not on the disk yet: the broker is to keep it.
        """
        end_s = self._clock() + timeout_s
        while not self._events:
            left_s = min(max(0.0, end_s - self._clock()), TICK_S)
            event = self._transport.receive(left_s, hold=hold)
            self._tick()
            if event is None:
                break
            self._handle(event)
        return self._events.popleft() if self._events else None

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has taken everything that was sent; whether it did in time."""
        end_s = self._clock() + timeout_s
        while self._unacknowledged or not self._outbox.done:
            self._pump()
            left_s = end_s - self._clock()
            event = self._transport.receive(max(0.0, left_s))
            if event is None:
                return False
            self._handle(event)
        return True

    def close(self) -> None:
        """Say that we go offline (on a device), let all that was sent go out, and disconnect."""
        if self._status is not None:
            self.send(None, dataclasses.replace(self._status, online=False))
        self.flush(GOODBYE_S)
        for peer in self._peers.values():
            peer.close()
        self._transport.close()

    def _branch_of(self, message: Message) -> Branch:
        branches = (Branch.STATUS, Branch.UP) if self._device else (Branch.DOWN, Branch.ROUND)
        for branch in branches:
            if isinstance(message, ALLOWED[branch]):
                return branch
        end = "a device" if self._device else "the gateway"
        raise LocalProtocolError(f"{end} does not send {type(message).__name__}")

    def _topic(self, branch: Branch, peer: str) -> str:
        if branch is Branch.ROUND:
            return self._topics.round
        if branch is Branch.STATUS:
            return self._topics.status(peer)
        return self._topics.message(branch, peer)

    def _publish(self, peer: str, topic: str, payload: bytes, *, retain: bool = False) -> int:
        handle = self._transport.publish(topic, payload, retain=retain)
        self._unacknowledged.add(handle)
        self.traffic[peer].sent_bytes += publish_packet_bytes(topic, len(payload))
        return handle

    def _pump(self) -> None:
        """Send chunks as far as windows and pace allow; what a full queue refuses goes later."""
        branch = Branch.UP if self._device else Branch.DOWN
        for due in self._outbox.due_chunks(self._pace.allows):
            topic = self._topics.chunk(branch, due.peer, due.transfer, due.index)
            try:
                handle = self._publish(due.peer, topic, due.frame)
            except TransportError:
                self._outbox.put_back(due)
                return
            self._chunks[handle] = (due.peer, due.transfer, due.index)
            self._pace.sending(handle, due.payload_bytes)
            if self._connected:
                self._timer.sending((due.peer, due.transfer), len(due.frame))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Received):
            self._receive(event)
        elif isinstance(event, Published):
            self._unacknowledged.discard(event.handle)
            self._pace.acknowledged(event.handle)
            self._timer.done(event.handle, sent=True)
            if chunk := self._chunks.pop(event.handle, None):
                if self._outbox.acknowledged(*chunk):
                    self._timer.done(chunk[:2], sent=True)
                self._pump()
        else:
            self._events.append(event)
            self._connected = isinstance(event, Connected)
            self._pace.interrupted()
            if isinstance(event, Connected):
                self._greet(event)
            else:
                self._timer.interrupted()

    def _greet(self, event: Connected) -> None:
        self._say_status()
        if not event.resumed:  # what was on its way to us is lost
            self._ask_for_missing(at_once=True)

    def _say_status(self) -> None:
        """Announce this end; where a full queue refuses it, a little later."""
        if self._status is None:
            return
        try:
            self.send(None, self._status)
        except TransportError:
            self._announced = False
        else:
            self._announced = True

    def _receive(self, received: Received) -> None:
        device = ""
        try:
            address = self._topics.parse(received.topic)
            device = address.device
            size = publish_packet_bytes(received.topic, len(received.payload))
            self.traffic[device].received_bytes += size
            if received.payload:  # an empty one only clears what was retained
                self._read(address, received)
        except (RemoteProtocolError, OSError) as error:  # OSError: no room for another transfer
            self.rejected[device] += 1
            self._events.append(Rejected(device=device, reason=str(error)))

    def _read(self, address: Address, received: Received) -> None:
        if len(received.payload) > MAX_PAYLOAD_BYTES:
            raise RemoteProtocolError(f"a payload of {len(received.payload)} bytes: send chunks")
        if not address.transfer:
            self._deliver(address, received.payload, retained=received.retained)
            return
        chunk = decode_chunk(received.payload)
        if (chunk.transfer, chunk.index) != (address.transfer, address.index):
            raise RemoteProtocolError("a chunk does not belong to its topic")
        frame = self._peer(address.device).add(chunk, self._clock())
        key = ("from", address.device, chunk.transfer)
        self._timer.received(key, len(received.payload))
        if frame is not None:
            self._timer.done(key, sent=False)
            self._deliver(address, frame, retained=False)

    def _deliver(self, address: Address, frame: bytes, *, retained: bool) -> None:
        message, body = decode_message(frame)
        if not isinstance(message, ALLOWED[address.branch]):
            raise RemoteProtocolError(f"{type(message).__name__} on {address.branch.name}")
        if isinstance(message, Status) and message.device != address.device:
            raise RemoteProtocolError(f"a status that claims to be {message.device[:64]!r}")
        if isinstance(message, Need) and message.what == "chunks":
            self._outbox.resend(address.device, message.transfer, message.missing, self._clock())
            self._pump()
            return
        self._events.append(
            Delivered(
                device=address.device, message=message, body=body, frame=frame, retained=retained
            )
        )

    def _peer(self, device: str) -> Reassembly:
        if device not in self._peers:
            if len(self._peers) >= MAX_PEERS:
                raise RemoteProtocolError(f"more than {MAX_PEERS} peers send in chunks")
            self._peers[device] = Reassembly(self._options.limits, self._open_sink)
        return self._peers[device]

    def _open_sink(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._spool))

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + TICK_S
            self._outbox.expire(self._clock())
            self._pump()
            if self._connected:
                self._ask_for_missing(at_once=False)
            if self._connected and not self._announced:
                self._say_status()

    def _ask_for_missing(self, *, at_once: bool) -> None:
        """What a full queue refuses is asked for again when the transfer has stalled once more."""
        for device, peer in self._peers.items():
            for transfer, missing in peer.stalled(self._clock(), at_once=at_once):
                with suppress(TransportError):
                    self.send(device, Need(what="chunks", transfer=transfer, missing=missing))


def status_will(topics: Topics, status: Status) -> Will:
    """The will of a device: the broker says that it is offline when it vanishes."""
    offline = dataclasses.replace(status, online=False)
    return Will(topic=topics.status(status.device), payload=encode_message(offline))
