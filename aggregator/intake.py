"""Updates on their way to the disk: checked one by one, stored a batch at a time.

A batch holds new updates of different devices. It is stored with one wait for the disk; only then
do its devices get their receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aggregator.sending import Sender
from aggregator.spool import Spool
from fedsparse.body import Body
from fedsparse.errors import RemoteProtocolError
from fedsparse.rounds.server import Effect, ServerRounds
from fedsparse.wire.messages import Update, Verdict

MOST_UPDATES: Final = 64  # of a batch; the first of them waits for its receipt as long
MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """An update that was checked, and is to be stored."""

    device: str
    update: Update
    digest: str


class Intake:
    """Takes updates in, and answers each with a receipt.

    Args:
        spool: turned to the open round.
        machine: says which updates are wanted.
        sender: of receipts.
        check: raises `RemoteProtocolError` over an update that is not what was asked for.
        perform: does what the machine asks for.
        stored, rejected: are told of each update, the latter why.
        failed: is told that the disk did not take some.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        spool: Spool,
        machine: ServerRounds,
        sender: Sender,
        *,
        check: Callable[[str, Update, Body], None],
        perform: Callable[[list[Effect]], None],
        stored: Callable[[str, Update], None],
        rejected: Callable[[str, str], None],
        failed: Callable[[Exception], None],
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._machine = machine
        self._sender = sender
        self._check = check
        self._perform = perform
        self._stored = stored
        self._rejected = rejected
        self._failed = failed
        self._clock = clock
        self._batch: dict[str, _Taken] = {}

    def __bool__(self) -> bool:
        """Whether updates wait to be stored."""
        return bool(self._batch)

    @property
    def is_full(self) -> bool:
        """Whether they are to be stored now, whatever else has come."""
        return len(self._batch) >= MOST_UPDATES or self._spool.waiting_bytes >= MOST_BYTES

    def wants(self, device: str, update: Update, digest: str) -> bool:
        """Whether the body of an update is to come; one that is not is answered at once."""
        verdict = self._machine.verdict(device, update.round_id, digest)
        if verdict is not None:
            self._answer(device, update, digest, verdict, _unasked(update, verdict))
        return verdict is None

    def take(self, device: str, update: Update, body: Body) -> None:
        """Take an update that is wanted and good, or say at once what becomes of it."""
        if device in self._batch:
            self.commit()
        verdict = self._machine.verdict(device, update.round_id, body.digest)
        reason = _unasked(update, verdict)
        if verdict is None:
            try:
                self._check(device, update, body)
            except RemoteProtocolError as error:
                verdict, reason = Verdict.REJECTED, str(error)
            else:
                self._add(device, update, body)
        if verdict is not None:
            self._answer(device, update, body.digest, verdict, reason)

    def commit(self) -> None:
        """Store the batch; then its devices get their receipts, and the round may close."""
        if not self._batch:
            return
        batch, self._batch = list(self._batch.values()), {}
        try:
            self._spool.commit()
        except OSError as error:  # nobody has a receipt: they all come again
            self._failed(error)
            return
        self._confirm(batch)

    def _confirm(self, batch: Sequence[_Taken]) -> None:
        for one in batch:
            self._sender.receipt(one.device, one.update.round_id, one.digest, Verdict.ACCEPTED)
            self._stored(one.device, one.update)
        digests = {one.device: one.digest for one in batch}
        self._perform(self._machine.stored(digests, self._clock()))

    def _add(self, device: str, update: Update, body: Body) -> None:
        try:
            self._spool.add(device, update, body)
        except OSError as error:  # its file could not be moved: it comes again
            self._failed(error)
        else:
            self._batch[device] = _Taken(device=device, update=update, digest=body.digest)

    def _answer(
        self, device: str, update: Update, digest: str, verdict: Verdict, reason: str
    ) -> None:
        """The receipt of an update that is not to be stored, or is already."""
        self._sender.receipt(device, update.round_id, digest, verdict, reason)
        if verdict is Verdict.REJECTED:
            self._rejected(device, reason)
            self.commit()  # in the order in which they came
            self._perform(self._machine.failed(device, update.round_id, self._clock()))


def _unasked(update: Update, verdict: Verdict | None) -> str:
    if verdict is not Verdict.REJECTED:
        return ""
    return f"an update for round {update.round_id} that was not asked for"
