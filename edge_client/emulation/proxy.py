"""A link in user space: a TCP proxy whose bytes take the time that they would take on the link."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from edge_client.emulation.channel import RESEND_S, Channel, ChannelShape
from edge_client.emulation.link import Link
from edge_client.emulation.scale import TimeScale

LOOPBACK: Final = "127.0.0.1"
BUFFER_BYTES: Final = 65536  # little waits outside the link, where it would be sent too early
RESET: Final = struct.pack("ii", 1, 0)  # linger for 0 s: closing resets
IN_FLIGHT: Final = 256  # chunks between wire and receiver
BACKLOG: Final = 64


@dataclass(slots=True)
class Counts:
    """Bytes sent into the link, lost in a cut or not; connections opened, and reset by a cut."""

    up_bytes: int = 0
    down_bytes: int = 0
    opened: int = 0
    reset: int = 0


class LinkProxies:
    """All ways through one link: they share its rates, are cut together and are counted together.

    Belongs to one event loop: every method is called there.

    Args:
        link: in the board's seconds.
        scale: how fast those go by.
        bind: this host's address at which places reach it.
    """

    def __init__(self, link: Link, scale: TimeScale, bind: str = LOOPBACK) -> None:
        self.counts = Counts()
        self._scale = scale
        self._bind = bind
        rng = random.Random(link.seed)  # noqa: S311 (weather, not a secret)
        self._up = Channel(ChannelShape(), random.Random(rng.random()))  # noqa: S311
        self._down = Channel(ChannelShape(), random.Random(rng.random()))  # noqa: S311
        self._loop = asyncio.get_running_loop()
        self._gates: dict[tuple[str, int], _Gate] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.change(link)

    def change(self, link: Link) -> None:
        """Another link from now on; what is on its way arrives as it would have."""
        self._link = link.on_host(self._scale)
        resend_s = self._scale.host_s(RESEND_S)
        for channel, rate in (
            (self._up, self._link.up_bytes_per_s),
            (self._down, self._link.down_bytes_per_s),
        ):
            channel.shape = ChannelShape(
                bytes_per_s=rate,
                delay_s=self._link.delay_s,
                jitter_s=self._link.jitter_s,
                loss=self._link.loss,
                resend_s=max(resend_s, 2 * self._link.delay_s),
            )

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where a service is reached through the link."""
        gate = self._gates.get((host, port))
        if gate is None:
            gate = self._gates[host, port] = _Gate(self._bind, (host, port), self._begin)
            if not self._is_cut:
                gate.open()
        return self._bind, gate.port

    def set_cut(self, cut: bool) -> None:
        """Reset all connections and refuse new ones; or take them again."""
        self._is_cut = cut
        for gate in self._gates.values():
            if cut:
                gate.shut()
            else:
                gate.open()
        if cut:
            self.counts.reset += len(self._connections)
            self._reset_all()

    async def close(self) -> None:
        """End all connections and free the ports."""
        for gate in self._gates.values():
            gate.close()
        self._reset_all()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _reset_all(self) -> None:
        for connection in self._connections:
            connection.cancel()

    def _begin(self, client: socket.socket, address: tuple[str, int]) -> None:
        self.counts.opened += 1
        task = self._loop.create_task(self._carry(client, address))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: client.close())  # one cut before it began, too

    async def _carry(self, client: socket.socket, address: tuple[str, int]) -> None:
        """One connection, to its end; one that fails or is cut ends as a reset on both sides."""
        ends = [client]
        try:
            target = await self._connected(address)
            ends.append(target)
            await _all_of(
                self._way(client, target, self._up, "up_bytes"),
                self._way(target, client, self._down, "down_bytes"),
            )
        except (OSError, asyncio.CancelledError):
            for end in ends:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            for end in ends:
                end.close()

    async def _connected(self, address: tuple[str, int]) -> socket.socket:
        """A connection to the service, after the time that asking for it takes on the link."""
        delay_s = self._link.delay_s * 2
        if delay_s:
            await asyncio.sleep(delay_s)
        infos = await self._loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = infos[0]
        target = _tuned(socket.socket(family, kind, protocol))
        try:
            await self._loop.sock_connect(target, where)
        except BaseException:
            target.close()
            raise
        return target

    async def _way(
        self, source: socket.socket, sink: socket.socket, channel: Channel, count: str
    ) -> None:
        """Carry bytes one way until the source ends; then the sink is told."""
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        await _all_of(self._send(source, arriving, channel, count), self._deliver(arriving, sink))

    async def _send(
        self,
        source: socket.socket,
        arriving: asyncio.Queue[tuple[float, bytes]],
        channel: Channel,
        count: str,
    ) -> None:
        slept = False
        while True:
            size = channel.shape.chunk_bytes
            data = _waiting(source, size) if slept else None
            was_waiting = data is not None
            if data is None:
                data = await self._loop.sock_recv(source, size)
            if not data:
                break
            setattr(self.counts, count, getattr(self.counts, count) + len(data))
            free_s, arrives_s = channel.send(len(data), self._loop.time(), late=was_waiting)
            await arriving.put((arrives_s, data))
            slept = self._loop.time() <= free_s  # else the receiver held it up, and not we
            await self._until(free_s)
        await arriving.put((self._loop.time() + channel.shape.delay_s, b""))

    async def _deliver(
        self, arriving: asyncio.Queue[tuple[float, bytes]], sink: socket.socket
    ) -> None:
        while True:
            arrives_s, data = await arriving.get()
            await self._until(arrives_s)
            if not data:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, data)

    async def _until(self, time_s: float) -> None:
        wait_s = time_s - self._loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class _Gate:
    """A port that leads to a service, and keeps its number while it refuses connections."""

    def __init__(
        self,
        bind: str,
        address: tuple[str, int],
        begin: Callable[[socket.socket, tuple[str, int]], None],
    ) -> None:
        self._address = address
        self._begin = begin
        self._bind = bind
        self._keeper = _bound(bind, 0)  # never listens: what comes to it is refused
        self.port: int = self._keeper.getsockname()[1]
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Take connections."""
        if self._listener is None:
            self._listener = _bound(self._bind, self.port)
            self._listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def shut(self) -> None:
        """Refuse connections; those that nobody has taken yet are reset."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Give the port back."""
        self.shut()
        self._keeper.close()

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except OSError:  # it was given up before we came
            return
        self._begin(_tuned(client), self._address)


async def _all_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run side by side; when one fails the others are ended, and have ended when this does."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)  # inherited
    bound.bind((host, port))
    return bound


def _waiting(source: socket.socket, size: int) -> bytes | None:
    """What has come already; None where nothing has."""
    try:
        return source.recv(size)
    except (BlockingIOError, InterruptedError):
        return None


def _tuned(end: socket.socket) -> socket.socket:
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end
