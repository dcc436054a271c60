"""A network of its own, by the kernel."""

from __future__ import annotations

import math
import shutil
import socket
import threading

import pytest
from missing_tool import leave_out
from places import python, soon_takes
from test_link_proxy import service

from edge_client.emulation.confine import confine
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.link import Cut, Link
from edge_client.emulation.namespace import INTERFACES, LOSSY, NAMED
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource
from edge_client.emulation.run import run

LARGE_BUFFER = 33  # SO_RCVBUFFORCE
RECEIVE = """
import socket, sys, time
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
def receive(size):
    while size > 0:
        size -= len(client.recv(min(size, 65536)))
receive(int(sys.argv[3]) // 5)
began = time.monotonic()
receive(int(sys.argv[3]))
print(time.monotonic() - began)
"""
TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))
    print("open")
except TimeoutError:
    print("silence")
"""
# Sends so many datagrams; how many could not be sent, and how many came back.
ECHOED = """
import socket, sys
LARGE_BUFFER = 33  # SO_RCVBUFFORCE: nothing is lost but by the link
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, LARGE_BUFFER, 1 << 24)
client.connect((sys.argv[1], int(sys.argv[2])))
def sent(payload):
    try:
        return client.send(payload) > 0
    except PermissionError:  # as a dropped packet shows to its sender
        return False
def echoes(wait_s):
    client.settimeout(wait_s)
    try:
        while True:
            yield client.recv(16)
    except TimeoutError:
        return
while not (sent(b"warm") and next(echoes(0.1), None)):
    pass  # from here on the neighbour's address is known
count = int(sys.argv[3])
print(sum(not sent(b"x") for _ in range(count)), sum(one == b"x" for one in echoes(1.0)))
"""


def echo_datagrams(server: socket.socket) -> None:
    """Send back what comes, until the socket is shut down."""
    while True:
        payload, sender = server.recvfrom(16)
        if not payload:
            return
        server.sendto(payload, sender)


def require_namespace(place: Place) -> None:
    applied = place.report().of(Resource.LINK)
    if applied.mechanism is not Mechanism.NAMESPACE:
        place.close()
        leave_out(f"network namespaces cannot be made here (root, iproute2): {applied}")


def test_the_kernel_keeps_the_rate_and_counts_the_bytes() -> None:
    rate = 500_000
    with service("source") as source, confine(link=Link(down_bytes_per_s=rate)) as place:
        require_namespace(place)
        address = place.reach("127.0.0.1", source.port)
        command = python(RECEIVE, *address, rate)
        # Headers of Ethernet, IP and TCP take their part.
        soon_takes(lambda: float(run(place, command).stdout), 1.05, rel=0.08)
        usage = place.usage()
    assert usage.down_bytes is not None
    assert usage.down_bytes > rate
    assert usage.up_bytes is not None
    assert 0 < usage.up_bytes < rate / 4


def test_the_kernel_loses_packets_at_random_both_ways() -> None:
    if not any(map(shutil.which, LOSSY)):
        leave_out("iptables is not installed: apt-get install iptables")
    loss, count = 0.2, 2000
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        confine(link=Link(loss=loss)) as place,
    ):
        require_namespace(place)
        server.setsockopt(socket.SOL_SOCKET, LARGE_BUFFER, 1 << 24)
        server.bind(("0.0.0.0", 0))  # noqa: S104
        port = server.getsockname()[1]
        thread = threading.Thread(target=echo_datagrams, args=[server])
        thread.start()
        host, _ = place.reach("127.0.0.1", port)
        unsent, returned = map(int, run(place, python(ECHOED, host, port, count)).stdout.split())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", port))
        thread.join()
    arrived = count - unsent
    assert unsent / count == pytest.approx(loss, abs=deviations(5, loss, count))
    assert 1 - returned / arrived == pytest.approx(loss, abs=deviations(5, loss, arrived))


def deviations(number: float, share: float, count: int) -> float:
    """Of the share among so many that are drawn."""
    return number * math.sqrt(share * (1 - share) / count)


def test_a_process_inside_sees_nothing_else_of_the_network() -> None:
    with service("echo") as echo, confine(link=Link()) as place:
        require_namespace(place)
        code = TRY.replace("TimeoutError", "OSError")
        direct = run(place, python(code, "127.0.0.1", echo.port, 1))
        assert direct.stdout == "silence\n"
        through = run(place, python(code, *place.reach("127.0.0.1", echo.port), 5))
        assert through.stdout == "open\n"


def test_a_cut_is_silence_and_ends() -> None:
    with service("echo") as echo, confine(link=Link()) as place:
        require_namespace(place)
        address = place.reach("127.0.0.1", echo.port)
        place.cut_link()
        assert run(place, python(TRY, *address, 0.3)).stdout == "silence\n"
        place.restore_link()
        assert run(place, python(TRY, *address, 20)).stdout == "open\n"


def test_the_links_own_cuts_pull_the_cable() -> None:
    link = Link(cuts=(Cut(at_s=0, for_s=1000),))
    with service("echo") as echo, confine(link=link) as place:
        require_namespace(place)
        address = place.reach("127.0.0.1", echo.port)
        assert run(place, python(TRY, *address, 0.3)).stdout == "silence\n"
        place.change_link(Link())
        assert run(place, python(TRY, *address, 20)).stdout == "open\n"


def test_closing_removes_namespace_and_cable() -> None:
    with confine(link=Link(up_bytes_per_s=1e6)) as place:
        require_namespace(place)
        interfaces = set(INTERFACES.iterdir())
        assert (NAMED / place.name).exists()
    assert not (NAMED / place.name).exists()
    assert any(one.name.startswith("fedsparse") for one in interfaces - set(INTERFACES.iterdir()))


def test_what_the_kernel_lacks_leads_to_the_proxy_and_the_report_says_why() -> None:
    with confine(link=Link(), avoid=[Mechanism.NAMESPACE]) as place:
        applied = place.report().of(Resource.LINK)
    assert applied.mechanism is Mechanism.PROXY
    assert applied.passed_over == ("network namespace: was not to be used",)


def test_without_a_link_there_is_nothing_to_cut_and_services_are_where_they_are() -> None:
    with confine() as place:
        assert place.reach("127.0.0.1", 1883) == ("127.0.0.1", 1883)
        with pytest.raises(EmulationError, match=r"link=Link\(\)"):
            place.cut_link()
