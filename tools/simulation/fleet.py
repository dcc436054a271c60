"""All virtual clients: who is online, who trains, and what they keep between rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedsparse.sparsity.densities import layer_slices
from fedsparse.transport.base import Received
from fedsparse.transport.memory import MemoryTransport
from fedsparse.types import BoolArray
from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.messages import Offer, Stage, Status
from tools.simulation.client import Belongings, Site, VirtualClient
from tools.simulation.cohort import Population
from tools.simulation.consensus import Consensus
from tools.simulation.pool import Pool
from tools.simulation.spec import SimulationError

ATTEMPTS: Final = 3  # of a round from which no update is accepted


@dataclass(slots=True)
class Work:
    """What the clients of a round did.

    Attributes:
        multiply_adds, train_s: of all of them.
        consensus: of the masks that evolved at the largest level; None where none did.
        failures: why clients gave up.
    """

    multiply_adds: int = 0
    train_s: float = 0.0
    consensus: Consensus | None = None
    failures: list[str] = field(default_factory=list)


class Fleet:
    """Brings the cohort of each round online and lets it work.

    A round costs what its cohort costs: nobody else is online. Between rounds only what a client
    keeps on its disk is remembered (`Belongings`; masks are files that all clients share).

    Args:
        site: where clients meet the aggregator.
        population: who there is.
        cohort: how many work in a round.
        samples: the `.npz` of each client.
        pool: does the training.
        at_offer: is called with each new offer, before anyone is online.
    """

    def __init__(
        self,
        site: Site,
        population: Population,
        cohort: int,
        samples: tuple[Path, ...],
        pool: Pool,
        at_offer: Callable[[Offer], None],
    ) -> None:
        self._site = site
        self._population = population
        self._cohort = cohort
        self._samples = samples
        self._pool = pool
        self._at_offer = at_offer
        self._belongings: dict[int, Belongings] = {}
        self._online: dict[int, VirtualClient] = {}
        self._last: list[int] = []  # who worked in the round before
        self._offer: Offer | None = None
        self._work = Work()
        self._radio = MemoryTransport(site.broker, client_id="fleet", clean_session=True)
        self._radio.subscribe(site.topics.round)
        self._radio.start()

    def act(self) -> bool:
        """Let the clients do what there is to do; whether anything happened."""
        offer = self._new_offer()
        if offer is not None:
            self._begin(offer)
            return True
        heard = [one.listen() for one in list(self._online.values())]
        if any(heard):
            return True
        waiting = [one for one in self._online.values() if one.order is not None]
        if waiting:
            self._train(waiting)
        return bool(waiting)

    def take_work(self) -> Work:
        """What was done since the last call."""
        work, self._work = self._work, Work()
        return work

    def to_document(self) -> dict[str, object]:
        """What clients keep, for JSON; of a moment when nobody is online."""
        return {
            "clients": {str(one): kept.to_document() for one, kept in self._belongings.items()},
            "last": self._last,
        }

    def restore(self, document: dict[str, object]) -> None:
        """Go on from what `to_document` wrote."""
        clients, last = document["clients"], document["last"]
        assert isinstance(clients, dict)  # noqa: S101 (of a file of ours)
        assert isinstance(last, list)  # noqa: S101
        self._belongings = {int(one): Belongings.from_document(d) for one, d in clients.items()}
        self._last = last
        # Their goodbyes reached the aggregator in the round that is now simulated again.
        for client in self._last:
            name = self._population.name(client)
            status = encode_message(Status(device=name, online=False, board="virtual"))
            self._site.broker.route(self._site.topics.status(name), status, retain=True)

    def held_masks(self) -> set[str]:
        """Digests of the masks that some client holds."""
        return {digest for kept in self._belongings.values() for digest in kept.held}

    def _new_offer(self) -> Offer | None:
        found = None
        while (event := self._radio.receive(0.0)) is not None:
            if isinstance(event, Received):
                message, _ = decode_message(event.payload)
                if isinstance(message, Offer):
                    found = message
        if found is None or (self._offer is not None and _key(found) == _key(self._offer)):
            return None
        return found

    def _begin(self, offer: Offer) -> None:
        """The last cohort goes, the next one comes."""
        self._offer = offer
        leaving, self._online = self._online, {}
        for one in leaving.values():
            one.hear_receipt()
        if offer.attempt >= ATTEMPTS:
            reasons = [one.failure for one in leaving.values() if one.failure]
            raise SimulationError(
                f"round {offer.round_id}: no update was accepted, {ATTEMPTS} times: "
                f"{reasons[0] if reasons else 'for no reason given'}"
            )
        self._at_offer(offer)
        for one in leaving.values():
            one.leave()
        if offer.stage is Stage.DONE:
            return
        senses = offer.stage is Stage.SENSE
        cohort = self._population.cohort(offer.round_id, self._cohort, largest_first=senses)
        self._last = cohort
        for client in cohort:
            self._online[client] = VirtualClient(
                self._site,
                self._population.name(client),
                self._population.levels[client],
                self._samples[client],
                self._belongings.setdefault(client, Belongings()),
            )

    def _train(self, waiting: list[VirtualClient]) -> None:
        orders = [one.order for one in waiting if one.order is not None]
        for one, answer in zip(waiting, self._pool.train(orders), strict=True):
            self._work.multiply_adds += answer.multiply_adds
            self._work.train_s += answer.train_s
            evolved = one.trained(answer)
            if one.failure:
                self._work.failures.append(one.failure)
            if evolved is not None and one.task_level == max(self._population.levels):
                self._note(evolved)
        if len(self._work.failures) >= len(waiting):
            raise SimulationError(f"the training of every client failed: {self._work.failures[0]}")

    def _note(self, mask: BoolArray) -> None:
        if self._work.consensus is None:
            self._work.consensus = Consensus(layer_slices(self._site.plan))
        self._work.consensus.add(mask)


def _key(offer: Offer) -> tuple[int, int]:
    return offer.round_id, offer.attempt
