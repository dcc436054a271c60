"""A network of its own: namespace, virtual cable, and the kernel's own rates and losses on it."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from edge_client.emulation.link import Link
from edge_client.emulation.names import is_left_over

NAMED: Final = Path("/run/netns")
INTERFACES: Final = Path("/sys/class/net")
NETWORK: Final = IPv4Network("10.213.0.0/16")  # four addresses for each place
INSIDE: Final = "eth0"
BURST_S: Final = 0.02
LEAST_BURST_BYTES: Final = 3200  # two packets
QUEUE_MS: Final = 400
TRIES: Final = 20
PATIENCE_S: Final = 20.0
REMOVAL_S: Final = 2.0
LOSSY: Final = ("iptables-legacy", "iptables")


class NamespaceError(Exception):
    """This kernel, or this user, cannot do it; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace and its cable to this host.

    Attributes:
        name: of the namespace.
        interface: this host's end of the cable.
        host_address, address: of the two ends.
    """

    name: str
    interface: str
    host_address: str
    address: str

    @property
    def script(self) -> str:
        """The program that a command is run by, inside. `/sys` stays this host's."""
        return f"nsenter --net={NAMED / self.name}"

    def shape(self, link: Link) -> None:
        """Set rates, and delay and loss as far as the kernel can.

        Args:
            link: in this host's seconds.

        Raises:
            NamespaceError: the kernel cannot.
        """
        self._discipline((), self.interface, link.down_bytes_per_s, link)
        self._discipline(self._within, INSIDE, link.up_bytes_per_s, link)
        if not _needs_netem(link):
            self._lose(link.loss)

    def cut(self, *, on: bool) -> None:
        """Pull the cable, or put it in again: packets vanish, nothing is reset."""
        _run("ip", "link", "set", self.interface, "down" if on else "up")

    def counts(self) -> tuple[int, int]:
        """Bytes that came out of the namespace and went into it, with all headers."""
        folder = INTERFACES / self.interface / "statistics"
        try:
            received, sent = (int((folder / f"{way}_bytes").read_text()) for way in ("rx", "tx"))
        except (OSError, ValueError):
            return 0, 0
        return received, sent

    def remove(self) -> None:
        """Take it away; one that has gone is no error."""
        with suppress(NamespaceError):
            _run("ip", "link", "del", self.interface)
        remove_namespace(self.name)

    @property
    def _within(self) -> tuple[str, ...]:
        return ("-n", self.name)

    def _discipline(
        self, where: tuple[str, ...], interface: str, bytes_per_s: float | None, link: Link
    ) -> None:
        with suppress(NamespaceError):
            _run("tc", *where, "qdisc", "del", "dev", interface, "root")
        place: tuple[str, ...] = ("root",)
        if _needs_netem(link):
            _run("tc", *where, "qdisc", "add", "dev", interface, "root", "handle", "1:",
                 "netem", *_netem(link))  # fmt: skip
            place = ("parent", "1:1")
        if bytes_per_s is not None:
            burst = max(LEAST_BURST_BYTES, round(bytes_per_s * BURST_S))
            _run("tc", *where, "qdisc", "add", "dev", interface, *place, "tbf",
                 "rate", f"{round(8 * bytes_per_s)}bit", "burst", f"{burst}b",
                 "latency", f"{QUEUE_MS}ms")  # fmt: skip

    def _lose(self, loss: float) -> None:
        """Drop packets at random, both ways, inside."""
        program = next((one for one in LOSSY if shutil.which(one)), None)
        if program is None:
            if loss:
                raise NamespaceError(f"loss needs one of {', '.join(LOSSY)}: install iptables")
            return
        enter = ("nsenter", f"--net={NAMED / self.name}", program)
        if loss == 0:
            with suppress(NamespaceError):
                _run(*enter, "-F")
            return
        _run(*enter, "-F")
        for chain in ("INPUT", "OUTPUT"):
            _run(*enter, "-A", chain, "-m", "statistic", "--mode", "random",
                 "--probability", f"{loss:.6f}", "-j", "DROP")  # fmt: skip


def open_namespace(name: str, link: Link) -> Namespace:
    """A namespace whose cable has a link's rates, delay and loss.

    Raises:
        NamespaceError: kernel or permissions lack something; nothing is left.
    """
    for program in ("ip", "tc", "nsenter"):
        if shutil.which(program) is None:
            raise NamespaceError(f"there is no program '{program}': install iproute2, util-linux")
    remove_left_over_namespaces()
    _run("ip", "netns", "add", name)
    try:
        made = _with_cable(name)
        made.shape(link)
    except BaseException:
        remove_namespace(name)
        raise
    return made


def remove_left_over_namespaces() -> None:
    """Take away what dead makers left; the cable goes with its end inside."""
    for entry in NAMED.iterdir() if NAMED.is_dir() else ():
        if is_left_over(entry.name):
            remove_namespace(entry.name)


def remove_namespace(name: str) -> None:
    """Take a namespace away; one that has gone is no error."""
    deadline = time.monotonic() + REMOVAL_S
    while (NAMED / name).exists() and time.monotonic() < deadline:
        with suppress(NamespaceError):
            _run("ip", "netns", "del", name)


def _with_cable(name: str) -> Namespace:
    """Making this host's end, whose name is the number of the addresses, takes them atomically."""
    places = NETWORK.num_addresses // 4
    error = NamespaceError("no addresses are free")
    for number in random.sample(range(places), TRIES):
        interface = f"fedsparse{number}"
        try:
            _run("ip", "link", "add", interface, "type", "veth",
                 "peer", "name", INSIDE, "netns", name)  # fmt: skip
        except NamespaceError as refusal:
            error = refusal
            if "exists" not in str(refusal):
                break
            continue
        host, inside = str(NETWORK[4 * number + 1]), str(NETWORK[4 * number + 2])
        within = ("ip", "-n", name)
        _run("ip", "addr", "add", f"{host}/30", "dev", interface)
        _run("ip", "link", "set", interface, "up")
        _run(*within, "addr", "add", f"{inside}/30", "dev", INSIDE)
        _run(*within, "link", "set", "lo", "up")
        _run(*within, "link", "set", INSIDE, "up")
        return Namespace(name=name, interface=interface, host_address=host, address=inside)
    raise error


def _needs_netem(link: Link) -> bool:
    return bool(link.delay_s or link.jitter_s)


def _netem(link: Link) -> list[str]:
    words = ["delay", f"{link.delay_s * 1e6:.0f}us"]
    words += [f"{link.jitter_s * 1e6:.0f}us"] if link.jitter_s else []
    return words + (["loss", f"{100 * link.loss:.4f}%"] if link.loss else [])


def _run(*command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (our own words)
            command, check=False, capture_output=True, text=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NamespaceError(f"{command[0]}: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise NamespaceError(f"{' '.join(command[:4])}: {said}")
