"""The proxy, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from places import PATIENCE_S, soon_takes, wait_until

from edge_client.emulation.confine import confine
from edge_client.emulation.link import Cut, Link
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource

ONLY_PROXY = (Mechanism.NAMESPACE,)


class Service:
    """A service that returns what it gets (`echo`), or swallows it, or sends without end."""

    def __init__(self, kind: str) -> None:
        self.received = 0
        self._kind = kind
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client:
            try:
                if self._kind == "source":
                    while True:
                        client.sendall(bytes(8192))
                while data := client.recv(65536):
                    self.received += len(data)
                    if self._kind == "echo":
                        client.sendall(data)
            except OSError:
                return


@contextmanager
def service(kind: str) -> Iterator[Service]:
    one = Service(kind)
    try:
        yield one
    finally:
        one.close()


def connected(place: Place, one: Service) -> socket.socket:
    return socket.create_connection(place.reach("127.0.0.1", one.port), timeout=PATIENCE_S)


def receive(client: socket.socket, size: int) -> float:
    """Seconds until so many bytes have come."""
    began_s = time.monotonic()
    while size > 0:
        size -= len(client.recv(min(size, 65536)))
    return time.monotonic() - began_s


@pytest.mark.parametrize("rate", [50_000, 2_000_000])
def test_bytes_come_down_at_the_links_rate(rate: int) -> None:
    with (
        service("source") as source,
        confine(link=Link(down_bytes_per_s=rate), avoid=ONLY_PROXY) as place,
        connected(place, source) as client,
    ):
        receive(client, rate // 10)
        soon_takes(lambda: receive(client, rate), 1.0, rel=0.05)


def test_all_connections_share_the_rate_up_and_each_way_has_its_own() -> None:
    link = Link(up_bytes_per_s=200_000, down_bytes_per_s=1_000_000)
    with (
        service("swallow") as sink,
        service("source") as source,
        confine(link=link, avoid=ONLY_PROXY) as place,
        connected(place, sink) as one,
        connected(place, sink) as other,
        connected(place, source) as down,
    ):
        for client in (one, other):
            threading.Thread(target=flood, args=(client,), daemon=True).start()
        receive(down, 300_000)
        soon_takes(lambda: receive(down, 1_000_000), 1.0, rel=0.07)
        soon_takes(lambda: sent(sink, 200_000), 1.0, rel=0.07)


def sent(sink: Service, size: int) -> float:
    """Seconds until a service has got so many more bytes."""
    wanted, began_s = sink.received + size, time.monotonic()
    wait_until(lambda: sink.received >= wanted, "bytes at the service")
    return (time.monotonic() - began_s) * size / (size + sink.received - wanted)


def flood(client: socket.socket) -> None:
    try:
        while True:
            client.sendall(bytes(8192))
    except OSError:
        return


def test_a_time_scale_speeds_up_rate_and_delay_alike() -> None:
    link = Link(down_bytes_per_s=100_000, delay_s=0.8)
    with service("source") as source, confine(link=link, scale=10, avoid=ONLY_PROXY) as place:
        began_s = time.monotonic()
        with connected(place, source) as client:
            receive(client, 1)
            first_s = time.monotonic() - began_s
            receive(client, 50_000)
            soon_takes(lambda: receive(client, 500_000), 0.5, rel=0.08)
        assert place.board_s() > 10 * (first_s + 0.4)
    # The way there and back to open the connection, then the bytes' own way.
    assert 3 * 0.08 <= first_s < 3 * 0.8


def test_bytes_are_counted_each_way_and_arrive_whole() -> None:
    with (
        service("echo") as echo,
        confine(link=Link(), avoid=ONLY_PROXY) as place,
        connected(place, echo) as client,
    ):
        text = bytes(range(256)) * 300
        threading.Thread(target=client.sendall, args=(text,), daemon=True).start()
        got = b""
        while len(got) < len(text):
            got += client.recv(65536)
        assert got == text
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""  # its end came through, too
        usage = place.usage()
    assert (usage.up_bytes, usage.down_bytes) == (len(text), len(text))
    assert place.usage() == usage


def test_a_cut_resets_connections_and_refuses_new_ones_until_it_ends() -> None:
    with service("echo") as echo, confine(link=Link(), avoid=ONLY_PROXY) as place:
        with connected(place, echo) as client:
            client.sendall(b"before")
            assert client.recv(6) == b"before"
            place.cut_link()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connected(place, echo)
        place.restore_link()
        with connected(place, echo) as client:  # at the same address
            client.sendall(b"after")
            assert client.recv(5) == b"after"


def test_a_cut_by_hand_may_end_by_itself() -> None:
    with service("echo") as echo, confine(link=Link(), scale=10, avoid=ONLY_PROXY) as place:
        began_s = place.board_s()
        place.cut_link(for_s=5)
        wait_until(lambda: is_open(place, echo), "the end of the cut")
        assert 5 <= place.board_s() - began_s < 15


def test_cuts_of_the_link_come_again_and_again() -> None:
    link = Link(cuts=(Cut(at_s=1, for_s=2, every_s=4),))
    with service("echo") as echo, confine(link=link, scale=10, avoid=ONLY_PROXY) as place:
        for _ in range(2):
            wait_until(lambda: not is_open(place, echo), "a cut")
            wait_until(lambda: is_open(place, echo), "the link after it")
        assert place.board_s() >= 7


def is_open(place: Place, one: Service) -> bool:
    try:
        connected(place, one).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_service_that_is_not_there_ends_the_connection_and_another_follows() -> None:
    with service("echo") as echo, confine(link=Link(), avoid=ONLY_PROXY) as place:
        address = place.reach("127.0.0.1", free_port())
        client = socket.create_connection(address, timeout=PATIENCE_S)
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)
        assert is_open(place, echo)


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def test_another_link_holds_from_now_on_for_connections_that_are_open() -> None:
    with (
        service("source") as source,
        confine(link=Link(down_bytes_per_s=4_000_000), avoid=ONLY_PROXY) as place,
        connected(place, source) as client,
    ):
        receive(client, 400_000)
        place.change_link(Link(down_bytes_per_s=400_000))
        receive(client, 400_000)  # what was on its way
        soon_takes(lambda: receive(client, 200_000), 0.5, rel=0.1)
        applied = place.report().of(Resource.LINK)
    assert applied.parameters["down_bytes_per_s"] == 400_000
    assert applied.mechanism is Mechanism.PROXY


def test_closing_frees_ports_and_threads() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with service("source") as source, confine(link=Link(), avoid=ONLY_PROXY) as place:
        address = place.reach("127.0.0.1", source.port)
        client = connected(place, source)
        receive(client, 1000)
    with client, pytest.raises(ConnectionResetError):
        receive(client, 100_000_000)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert "fedsparse links" not in {thread.name for thread in threading.enumerate()} - before
