"""Messages over a transport: what the agent and the aggregator see of the network.

A large body travels in chunks that its receiver asks for, few at a time, so that other messages
pass between them; what is lost is asked for again here. Nothing that a peer sends can raise: what
breaks the contract is dropped, counted, and reported as `Rejected`.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedsparse.body import NO_BODY, Body, Bytes, File
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
from fedsparse.transport.limiter import Limiter, Telling
from fedsparse.transport.options import ChannelOptions
from fedsparse.transport.outbox import Outbox
from fedsparse.transport.pace import Ceiling, Pace
from fedsparse.transport.pull import Pull, Pulls
from fedsparse.transport.timing import Transfer, TransferTimer
from fedsparse.transport.trust import Trust
from fedsparse.wire.frame import Absent, decode_frame
from fedsparse.wire.headers import encode_message, encode_message_head, read_message
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
from fedsparse.wire.signing import BY_DEVICE, BY_GATEWAY, Signed, signed
from fedsparse.wire.topics import Address, Branch, Topics
from fedsparse.wire.transfer import ask_for, decode_chunk

log = logging.getLogger(__name__)

TICK_S: Final = 1.0  # how often stalled transfers are looked for, and the longest wait of `poll`
BUSY_S: Final = 0.1  # of `poll`, with what makes no event, also where it is not to wait
GOODBYE_S: Final = 2.0
MAX_PEERS: Final = 10_000  # whose bytes are counted apart: names are easily invented
MAX_PAYLOAD_BYTES: Final = 1024 * 1024  # of one MQTT message
FLOOD: Final = "more than one device may send: dropped unread"

ALLOWED: Final[dict[Branch, tuple[type[Message], ...]]] = {
    Branch.STATUS: (Status,),
    Branch.UP: (Ready, Update, Failure, Need),
    Branch.DOWN: (Task, Receipt, Need),
    Branch.ROUND: (Offer,),
}
SIGNED: Final[dict[Branch, tuple[type[Signed], ...]]] = {
    Branch.STATUS: (),
    Branch.UP: BY_DEVICE,
    Branch.DOWN: BY_GATEWAY,
    Branch.ROUND: BY_GATEWAY,
}
RETAINED: Final = (Branch.STATUS, Branch.ROUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The head of a good message, whose body comes if it is accepted; it may come twice.

    Attributes:
        device: who sent it, or on a device its own name.
        message: its header.
        absent: what its body will be.
    """

    device: str
    message: Message
    absent: Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A good message; it may come twice.

    Attributes:
        device: who sent it, or on a device its own name; empty for an offer.
        message: its header.
        body: the bytes of its parts. A `File` is removed when the next event is asked for, unless
            it was moved elsewhere.
        retained: whether the broker had kept it for us.
    """

    device: str
    message: Message
    body: Body = field(repr=False)
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Something broke the contract, and was dropped; of many, few are told (`Telling`)."""

    device: str
    reason: str


ChannelEvent = Connected | Disconnected | Announced | Delivered | Rejected


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
        spool: folder for the bodies that are on their way here.
        status: of a device: announced, retained, after every connect; offline on `close`.
        options: sizes and bounds.
        trust: of a fleet with an authority: what is not signed as it must be is rejected.
        clock: seconds, monotonic.
        on_transfer: is told how long messages took, where that can be seen: those that are sent,
            until the broker has taken them, and those that come in chunks, from the first one on.

    Attributes:
        traffic: by device; the offers to everyone are under the empty name, as are devices beyond
            the first `MAX_PEERS`.
        rejected: number of dropped payloads, likewise.
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
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_transfer: Callable[[Transfer], None] = lambda _: None,
    ) -> None:
        self.traffic: dict[str, Traffic] = defaultdict(Traffic)
        self.rejected: Counter[str] = Counter()
        self._transport = transport
        self._topics = topics
        self._device = device
        self._status = status
        self._trust = trust
        self._options = options = options or ChannelOptions()
        self._clock = clock
        self._telling = Telling(MAX_PEERS, clock)
        # A device hears its gateway alone, whose broker can stop it in simpler ways.
        transfer_bytes = options.limits.transfer_bytes
        self._limiter = None if device else Limiter(transfer_bytes, MAX_PEERS, clock)
        self._events: deque[ChannelEvent] = deque()
        self._outbox = Outbox(options.limits.idle_s, options.window_of, clock)
        self._chunks: dict[int, tuple[str, str, int]] = {}  # handle -> peer, transfer, index
        self._pace = Pace(clock, options.in_flight_bytes)
        self._unacknowledged: set[int] = set()
        # A device asks for what its link can bear; a gateway leaves that to the devices' own pace.
        self._pulls = Pulls(
            spool,
            options.limits,
            window=options.window_of,
            pace=Pace(clock, options.in_flight_bytes)
            if device
            else Ceiling(options.in_flight_bytes),
            clock=clock,
        )
        self._lent: File | None = None
        self._next_tick_s = clock() + TICK_S
        self._connected = False
        self._packet_bytes: int | None = None  # the largest one that the broker takes
        self._status_said = True
        self._timer = TransferTimer(on_transfer, clock)

    def start(self) -> None:
        """Subscribe and connect.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us; try again later.
        """
        self._pulls.start()
        filters = self._topics.gateway_filters()
        if self._device:
            filters = self._topics.device_filters(self._device)
        for topic_filter in filters:
            self._transport.subscribe(topic_filter)
        self._transport.start()

    def send(self, device: str | None, message: Message, body: Body = NO_BODY) -> None:
        """Send a message; what is retained and what is chunked follows from the message.

        Args:
            device: to whom; None on a device (to the gateway) and for an offer (to everyone).
            message: any that this end of the contract sends.
            body: the bytes of its parts; where they are many, the peer asks for them.

        Raises:
            LocalProtocolError: a message that this end does not send, or parts that do not fit.
            OSError: the body cannot be read.
            TransportError: too much waits for the broker already.
        """
        branch = self._branch_of(message)
        peer = "" if branch is Branch.ROUND else device or self._device
        topic = self._topic(branch, peer)
        if self._trust and self._trust.signer and isinstance(message, SIGNED[branch]):
            message = signed(message, topic, body.digest if body.size else "", self._trust.signer)
        if self._options.goes_inline(body.size, self._packet_bytes):
            frame = encode_message(message, body.read())
        else:
            chunk_bytes = self._options.chunk_bytes_of(body.size, self._packet_bytes)
            absent = Absent(digest=body.digest, size=body.size, chunk_bytes=chunk_bytes)
            frame = encode_message_head(message, absent)
            self._outbox.put(peer, body, absent)
        handle = self._publish(peer, topic, frame, retain=branch in RETAINED)
        if self._connected:
            self._timer.sending(handle, len(frame))

    def accept(self, announced: Announced) -> None:
        """Have the body of a message come; it is then `Delivered` with its latest header.

        What came of the same body before, and before a restart, is not sent again.
        """
        peer, absent = announced.device, announced.absent
        try:
            pull = self._pulls.accept(peer, announced.message, absent)
            self._go_on(peer, pull)
        except (RemoteProtocolError, OSError) as error:  # OSError: no room for it
            self._reject(peer, str(error))

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

        What is dropped is nothing: a flood of it does not keep the caller from his deadlines.

        Args:
            timeout_s: how long to wait.
            hold: what came before is not on the disk yet: the broker is to keep it.
        """
        self._take_back()
        began_s = self._clock()
        end_s, busy_s = began_s + timeout_s, min(max(timeout_s, BUSY_S), TICK_S)
        while not self._events:
            left_s = min(max(0.0, end_s - self._clock()), TICK_S)
            event = self._transport.receive(left_s, hold=hold)
            self._tick()
            if event is None:
                break
            self._handle(event)
            if self._clock() - began_s >= busy_s:
                break
        if not self._events:
            return None
        found = self._events.popleft()
        if isinstance(found, Delivered) and isinstance(found.body, File):
            self._lent = found.body
        return found

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
        self._take_back()
        self._transport.close()

    def _take_back(self) -> None:
        """Remove the body of the last event, where it was not moved elsewhere."""
        if self._lent is not None:
            self._lent.path.unlink(missing_ok=True)
            self._lent = None

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
        self._traffic_of(peer).sent_bytes += publish_packet_bytes(topic, len(payload))
        return handle

    def _traffic_of(self, peer: str) -> Traffic:
        known = peer in self.traffic or len(self.traffic) < MAX_PEERS
        return self.traffic[peer if known else ""]

    def _reject(self, peer: str, reason: str) -> None:
        known = peer in self.rejected or len(self.rejected) < MAX_PEERS
        self.rejected[peer if known else ""] += 1
        silent = self._telling.of(peer)
        if silent is not None:
            more = f" (and {silent} more since the last that was told)" if silent else ""
            self._events.append(Rejected(device=peer, reason=f"{reason}{more}"))

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
            self._pace.sending(handle, len(due.frame))
            if self._connected:
                self._timer.sending((due.peer, due.transfer), len(due.frame))

    def _go_on(self, peer: str, pull: Pull) -> None:
        """Ask for chunks of a body as far as its window and the pace allow; deliver a whole one.

        Raises:
            RemoteProtocolError: the whole body is not the one that was announced.
        """
        if not pull.partial.missing:
            body = self._pulls.finish(peer)
            self._timer.done(("from", peer), sent=False)
            self._events.append(
                Delivered(device=peer, message=pull.message, body=body, retained=False)
            )
        elif self._connected and (wanted := self._pulls.ask(peer, pull)):
            with suppress(TransportError):  # where a queue is full, it has stalled by and by
                self.send(peer, ask_for(pull.absent.digest, wanted))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Received):
            self._receive(event)
        elif isinstance(event, Published):
            if event.refused:
                log.error("not_sent=yes reason=%r", event.refused)
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
            self._pulls.pace.interrupted()
            if isinstance(event, Connected):
                self._greet(event)
            else:
                self._timer.interrupted()

    def _greet(self, event: Connected) -> None:
        self._packet_bytes = event.packet_bytes
        self._say_status()
        self._pulls.lapse(at_once=not event.resumed)
        self._go_on_with_all()

    def _say_status(self) -> None:
        """Announce this end; where a full queue refuses it, a little later."""
        if self._status is None:
            return
        try:
            self.send(None, self._status)
        except TransportError:
            self._status_said = False
        else:
            self._status_said = True

    def _receive(self, received: Received) -> None:
        device = ""
        try:
            address = self._topics.parse(received.topic)
            device = address.device
            self._check_ours(address)
            size = publish_packet_bytes(received.topic, len(received.payload))
            self._traffic_of(device).received_bytes += size
            if self._limiter and not self._limiter.takes(device, size):
                raise RemoteProtocolError(FLOOD)
            if received.payload:  # an empty one only clears what was retained
                self._read(address, received)
        except (RemoteProtocolError, OSError) as error:  # OSError: no room for a chunk
            self._reject(device, str(error))

    def _check_ours(self, address: Address) -> None:
        """A broker that lies may deliver what is signed for others, and was not subscribed to."""
        if self._device:
            theirs = address.branch is Branch.DOWN and address.device != self._device
            ours = address.branch in (Branch.DOWN, Branch.ROUND) and not theirs
        else:
            ours = address.branch in (Branch.STATUS, Branch.UP)
        if not ours:
            raise RemoteProtocolError("it is on a topic that is not for this end")

    def _read(self, address: Address, received: Received) -> None:
        if len(received.payload) > MAX_PAYLOAD_BYTES:
            raise RemoteProtocolError(f"a payload of {len(received.payload)} bytes: send chunks")
        if not address.transfer:
            self._deliver(address, received)
            return
        peer, payload = address.device, decode_chunk(received.payload)
        asked = self._pulls.has_asked(peer, address.transfer, address.index)
        if pull := self._pulls.add(peer, address.transfer, address.index, payload):
            if asked and self._limiter:
                size = publish_packet_bytes(received.topic, len(received.payload))
                self._limiter.asked_for(peer, size)
            self._timer.received(("from", peer), len(received.payload))
            self._go_on(peer, pull)

    def _deliver(self, address: Address, received: Received) -> None:
        frame, device = decode_frame(received.payload), address.device
        message, body = read_message(frame), frame.absent or frame.body
        if not isinstance(message, ALLOWED[address.branch]):
            raise RemoteProtocolError(f"{type(message).__name__} on {address.branch.name}")
        if isinstance(message, Status) and message.device != device:
            raise RemoteProtocolError(f"a status that claims to be {message.device[:64]!r}")
        if self._trust is not None and isinstance(message, SIGNED[address.branch]):
            self._trust.check(device, received.topic, frame)
        if self._limiter:
            self._limiter.knows(device)
        if isinstance(body, Absent):
            self._events.append(Announced(device=device, message=message, absent=body))
        elif isinstance(message, Need) and message.what == "chunks":
            self._outbox.ask(device, message)
            self._pump()
        else:
            self._events.append(
                Delivered(
                    device=device, message=message, body=Bytes(body), retained=received.retained
                )
            )

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + TICK_S
            self._outbox.expire()
            self._pump()
            self._pulls.lapse()
            self._go_on_with_all()
            if self._connected and not self._status_said:
                self._say_status()

    def _go_on_with_all(self) -> None:
        for peer, pull in self._pulls.open():
            self._go_on(peer, pull)


def status_will(topics: Topics, status: Status) -> Will:
    """The will of a device: the broker says that it is offline when it vanishes."""
    offline = dataclasses.replace(status, online=False)
    return Will(topic=topics.status(status.device), payload=encode_message(offline))
