"""Sizes and bounds of what travels in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fedsparse.wire.frame import MAX_CHUNK_BYTES, Absent

IN_FLIGHT_DIVISOR: Final = 25  # of a body, 4 % are in flight at most
HEADER_BYTES: Final = 4096  # of a packet, for its topic and the header of a message with a body,
CHUNK_HEADER_BYTES: Final = 1024  # and of one with a chunk
LEAST_CHUNK_BYTES: Final = 16 * 1024  # smaller ones would cost more than a cut does


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may send, and how patient its receiver is.

    Attributes:
        transfer_bytes: of one body; each peer has one on its way at a time.
        stall_s: without a chunk that was asked for, before it is asked for again.
        idle_s: without any chunk, before a transfer is left to the sender's next head.
    """

    transfer_bytes: int = 256 * 1024 * 1024
    stall_s: float = 5.0
    idle_s: float = 300.0

    def __post_init__(self) -> None:
        if self.transfer_bytes < 1:
            raise ValueError("transfer_bytes must be at least 1")
        if not 0 < self.stall_s <= self.idle_s:
            raise ValueError("0 < stall_s <= idle_s must hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """Sizes and bounds; sender and receiver need not agree on them.

    Attributes:
        inline_bytes: the largest body that is sent with its message.
        chunk_bytes: the largest payload of a chunk: others wait for one at least.
        window: chunks of the smallest bodies in flight at most.
        in_flight_bytes: of all bodies together, however fast the link.
        limits: of what a peer may send.
    """

    inline_bytes: int = 64 * 1024
    chunk_bytes: int = 64 * 1024
    window: int = 4
    in_flight_bytes: int = 16 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("inline_bytes", "chunk_bytes"):
            if not 0 < getattr(self, name) <= MAX_CHUNK_BYTES:
                raise ValueError(f"{name} must be 1 to {MAX_CHUNK_BYTES}")
        if self.window < 1 or self.in_flight_bytes < 1:
            raise ValueError("window and in_flight_bytes must be at least 1")

    def goes_inline(self, size_bytes: int, packet_bytes: int | None) -> bool:
        """Whether a body travels with its message.

        Args:
            size_bytes: of the body.
            packet_bytes: the largest packet that the broker takes, where it is known.
        """
        limit = self.inline_bytes
        if packet_bytes is not None:
            limit = min(limit, packet_bytes - HEADER_BYTES)
        return size_bytes <= limit

    def chunk_bytes_of(self, size_bytes: int, packet_bytes: int | None) -> int:
        """The payload of the chunks into which a body is cut.

        It follows from the size alone, and the broker's limit: who sends it again, after a restart
        too, sends the same chunks.
        """
        in_flight = size_bytes // IN_FLIGHT_DIVISOR
        chunk = min(self.chunk_bytes, max(LEAST_CHUNK_BYTES, in_flight // self.window))
        if packet_bytes is not None:
            chunk = min(chunk, max(1, packet_bytes - CHUNK_HEADER_BYTES))
        return chunk

    def window_of(self, absent: Absent) -> int:
        """How many chunks of a body may be in flight: 4 %, so that a lost connection costs little.

        A few may be in any case, or a small body would take long.
        """
        return max(self.window, absent.size // IN_FLIGHT_DIVISOR // absent.chunk_bytes)
