"""A place's link: a network of its own where kernel and permissions have it, else a proxy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from edge_client.emulation.cut_clock import CutClock
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.link import Link
from edge_client.emulation.loop_thread import LoopThread
from edge_client.emulation.namespace import Namespace, NamespaceError, open_namespace
from edge_client.emulation.proxy import LOOPBACK, Counts, LinkProxies
from edge_client.emulation.report import Applied, Mechanism, Parameter, Resource
from edge_client.emulation.scale import TimeScale

Result = TypeVar("Result")
LOSS_IS: Final = "a stream that waits for the packet to be sent again"
LOCAL: Final = Link()  # of what only forwards: the cable does the rest


class LinkHold(Protocol):
    """What stands between a place and its services."""

    @property
    def applied(self) -> Applied:
        """How."""
        ...

    @property
    def script(self) -> str:
        """The program, with its options, that a command is run by; empty = none."""
        ...

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where a service of this host's network is found from inside."""
        ...

    def change(self, link: Link) -> None:
        """Another link from now on, in the board's seconds."""
        ...

    def cut(self, *, on: bool, for_s: float | None = None) -> None:
        """Cut the link for a time of the board, or until further notice; or give it back."""
        ...

    def counts(self) -> tuple[int, int] | None:
        """Bytes up and down; None where nobody counts."""
        ...

    def close(self) -> None:
        """Take it away."""
        ...


def hold_link(
    link: Link | None,
    scale: TimeScale,
    *,
    place: str,
    facts: dict[str, Parameter],
    reason: str = "no limit was asked for",
    avoid: Collection[Mechanism] = (),
) -> LinkHold:
    """Stand between a place and its services by the best there is.

    Args:
        link: in the board's seconds; None = no limit.
        scale: how fast those go by.
        place: its name.
        facts: where the rates are from, for the report.
        reason: why there is no limit, where there is none.
        avoid: mechanisms not to use.

    Raises:
        EmulationError: neither can be used.
    """
    if link is None:
        return _Open(facts, reason)
    refusal = "was not to be used"
    if Mechanism.NAMESPACE not in avoid:
        try:
            return _Cable(open_namespace(place, link.on_host(scale)), link, scale, facts)
        except NamespaceError as error:
            refusal = str(error)
    refusals = (f"{Mechanism.NAMESPACE.value}: {refusal}",)
    if Mechanism.PROXY in avoid:
        return _Open(facts, f"{refusals[0]}; {Mechanism.PROXY.value}: was not to be used")
    return _Proxied(link, scale, facts, refusals)


class _Open:
    """No limit: services are where they are."""

    script = ""

    def __init__(self, facts: dict[str, Parameter], reason: str) -> None:
        self.applied = Applied(
            resource=Resource.LINK,
            mechanism=Mechanism.NOTHING,
            parameters=facts,
            passed_over=(reason,),
        )

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return host, port

    def change(self, link: Link) -> None:
        raise EmulationError(
            f"{self.applied.passed_over[0]}: there is no link to change to {link}; give one at the "
            "start, link=Link()"
        )

    def cut(self, *, on: bool, for_s: float | None = None) -> None:
        raise EmulationError("there is no link to cut; give one at the start, link=Link()")

    def counts(self) -> None:
        return None

    def close(self) -> None:
        pass


class _Proxied:
    """What goes through `reach` is held back; other traffic is not."""

    script = ""

    def __init__(
        self,
        link: Link,
        scale: TimeScale,
        facts: dict[str, Parameter],
        refusals: tuple[str, ...],
    ) -> None:
        self._link = link
        self._facts = facts
        self._scale = scale
        self._refusals = refusals
        self._way = _Way(link, link, scale, LOOPBACK)

    @property
    def applied(self) -> Applied:
        host = self._link.on_host(self._scale)
        return Applied(
            resource=Resource.LINK,
            mechanism=Mechanism.PROXY,
            parameters={
                **_parameters(host),
                "loss_is": LOSS_IS if host.loss else None,
                **self._facts,
            },
            approximate=True,
            passed_over=self._refusals,
        )

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return self._way.reach(host, port)

    def change(self, link: Link) -> None:
        self._way.change(link, link)
        self._link = link

    def cut(self, *, on: bool, for_s: float | None = None) -> None:
        self._way.cut(on=on, for_s=for_s)

    def counts(self) -> tuple[int, int]:
        return self._way.counts.up_bytes, self._way.counts.down_bytes

    def close(self) -> None:
        self._way.close()


class _Cable:
    """A namespace; this host's services are reached by forwarders at its end of the cable."""

    def __init__(
        self, namespace: Namespace, link: Link, scale: TimeScale, facts: dict[str, Parameter]
    ) -> None:
        self._namespace = namespace
        self._scale = scale
        self._link = link
        self._facts = facts
        self._way = _Way(LOCAL, link, scale, namespace.host_address, pull=self._pull)
        self._counted = (0, 0)

    @property
    def script(self) -> str:
        return self._namespace.script

    @property
    def applied(self) -> Applied:
        host = self._link.on_host(self._scale)
        return Applied(
            resource=Resource.LINK,
            mechanism=Mechanism.NAMESPACE,
            parameters={
                **_parameters(host),
                "namespace": self._namespace.name,
                "address": self._namespace.address,
                **self._facts,
            },
        )

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return self._way.reach(host, port)

    def change(self, link: Link) -> None:
        try:
            self._namespace.shape(link.on_host(self._scale))
        except NamespaceError as error:
            raise EmulationError(
                f"the network namespace cannot become such a link: {error}; begin with that link, "
                "and a proxy is used"
            ) from error
        self._link = link
        self._way.change(LOCAL, link)

    def cut(self, *, on: bool, for_s: float | None = None) -> None:
        self._way.cut(on=on, for_s=for_s)

    def counts(self) -> tuple[int, int]:
        up, down = self._namespace.counts()
        self._counted = (max(up, self._counted[0]), max(down, self._counted[1]))
        return self._counted

    def close(self) -> None:
        self.counts()
        self._way.close()
        self._namespace.remove()

    def _pull(self, cut: bool) -> None:
        with suppress(NamespaceError):  # it has gone: there is nothing to cut
            self._namespace.cut(on=cut)


class _Way:
    """Proxies, and the clock of their cuts, on the thread for them.

    Args:
        link: of the proxies.
        cuts: the link whose cuts are followed.
        scale: how fast the board's seconds go by.
        bind: the address of the proxies.
        pull: what a cut does; by default the proxies reset and refuse connections.
    """

    def __init__(
        self,
        link: Link,
        cuts: Link,
        scale: TimeScale,
        bind: str,
        pull: Callable[[bool], None] | None = None,
    ) -> None:
        self._scale = scale
        self._thread = LoopThread.acquire()
        self._proxies, self._clock = self._thread.call(_opened(link, cuts, scale, bind, pull))

    @property
    def counts(self) -> Counts:
        return self._proxies.counts

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return self._thread.call(_do(lambda: self._proxies.reach(host, port)))

    def change(self, link: Link, cuts: Link) -> None:
        self._thread.call(_do(lambda: self._proxies.change(link)))
        self._thread.call(_do(lambda: self._clock.change(cuts.on_host(self._scale))))

    def cut(self, *, on: bool, for_s: float | None) -> None:
        host_s = None if for_s is None else self._scale.host_s(for_s)
        self._thread.call(_do(lambda: self._clock.by_hand(cut=on, for_s=host_s)))

    def close(self) -> None:
        self._thread.call(_do(self._clock.close))
        self._thread.call(self._proxies.close())
        LoopThread.release()


async def _opened(
    link: Link, cuts: Link, scale: TimeScale, bind: str, pull: Callable[[bool], None] | None
) -> tuple[LinkProxies, CutClock]:
    proxies = LinkProxies(link, scale, bind)
    return proxies, CutClock(cuts.on_host(scale), pull or proxies.set_cut)


async def _do(work: Callable[[], Result]) -> Result:
    return work()


def _parameters(host: Link) -> dict[str, Parameter]:
    """A link in this host's seconds, for the report."""
    return {
        "up_bytes_per_s": host.up_bytes_per_s,
        "down_bytes_per_s": host.down_bytes_per_s,
        "delay_s": host.delay_s or None,
        "jitter_s": host.jitter_s or None,
        "loss": host.loss or None,
        "cuts": len(host.cuts) or None,
    }
