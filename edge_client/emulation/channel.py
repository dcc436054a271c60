"""One direction of a link: when bytes that are given to it arrive."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

PACKET_BYTES: Final = 1448  # of TCP's payload over Ethernet and IPv4
RESEND_S: Final = 0.2  # the shortest retransmission timeout of Linux (TCP_RTO_MIN)
TELLING: Final = 3  # later packets whose acknowledgements tell of a loss (RFC 5681, section 3.2)
CREDIT_S: Final = 0.02  # of a channel that was idle
LATE_S: Final = 0.5  # of one whose bytes were there and that was served late: this host's fault
LEAST_CHUNK: Final = 512
MOST_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShape:
    """One direction in this host's seconds.

    Attributes:
        bytes_per_s: None = no limit.
        delay_s, jitter_s, loss: as `Link` has them.
        resend_s: how long TCP waits before it sends again what nobody acknowledged.
    """

    bytes_per_s: float | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    resend_s: float = RESEND_S

    @property
    def chunk_bytes(self) -> int:
        """How much to give at once, so that bytes arrive evenly: 20 ms worth of them."""
        if self.bytes_per_s is None:
            return MOST_CHUNK
        return int(min(MOST_CHUNK, max(LEAST_CHUNK, self.bytes_per_s * CREDIT_S)))


class Channel:
    """Bytes of all connections of a direction, one after the other, as on one wire.

    What a lost packet means to a stream is that everything behind it waits: for a round trip where
    enough came after it to tell of the loss, else for the retransmission timeout, doubled each time
    that it is lost again. It also takes its time on the wire again. That TCP sends more slowly
    after a loss is not played.

    Args:
        shape: may be replaced at any time.
        rng: of loss and jitter.
    """

    def __init__(self, shape: ChannelShape, rng: random.Random) -> None:
        self.shape = shape
        self._rng = rng
        self._free_s = 0.0  # when the wire has sent everything that it was given

    def send(self, size: int, now_s: float, *, late: bool = False) -> tuple[float, float]:
        """Put bytes on the wire.

        Args:
            size: bytes that follow one another.
            now_s: the time.
            late: whether they were there when the wire became free.

        Returns:
            When the wire is free again, and when all the bytes have arrived.
        """
        shape = self.shape
        lost, stall_s = self._losses(size)
        if shape.bytes_per_s is None:
            self._free_s = now_s
        else:
            resent = lost * min(size, PACKET_BYTES)
            start_s = max(self._free_s, now_s - (LATE_S if late else CREDIT_S))
            self._free_s = start_s + (size + resent) / shape.bytes_per_s
        jitter_s = self._rng.random() * shape.jitter_s if shape.jitter_s else 0.0
        return self._free_s, max(now_s, self._free_s) + shape.delay_s + jitter_s + stall_s

    def _losses(self, size: int) -> tuple[int, float]:
        """How many packets are sent again, and how long the stream stands still for them."""
        shape = self.shape
        if not shape.loss:
            return 0, 0.0
        packets = -(-size // PACKET_BYTES)
        lost, stall_s = 0, 0.0
        for number in range(packets):
            if self._rng.random() >= shape.loss:
                continue
            behind = packets - 1 - number
            wait_s = 2 * shape.delay_s if behind >= TELLING else shape.resend_s
            stall_s += wait_s
            lost += 1
            again_s = max(wait_s, shape.resend_s)
            while self._rng.random() < shape.loss:
                again_s *= 2
                stall_s += again_s
                lost += 1
        return lost, stall_s
