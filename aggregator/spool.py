"""The updates of the open round on disk: nothing in memory is the only copy of one.

    <root>/<round>/updates.segment     what came, in the order of arrival (aggregator/segment.py)
    <root>/<round>/<digest>.body       large bodies, moved here from where they were received

Updates are taken a batch at a time: one wait for the disk however many they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aggregator.segment import BodyAt, Found, Gap, Record, encode_mark, scan
from fedsparse.body import Body, Bytes, File, digest_of
from fedsparse.durable import sync_file, sync_folder
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire import cbor
from fedsparse.wire.headers import from_header, to_header
from fedsparse.wire.messages import Update

SEGMENT: Final = "updates.segment"
BODY: Final = ".body"
DAMAGED: Final = "its checksum is wrong"

Key = tuple[str, int]  # device, and the round that its update was trained for


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """An update that has its receipt, and that the disk has damaged.

    Attributes:
        device: whose, as far as that can be read; else empty.
        reason: what is wrong with it.
    """

    device: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the update of a device is."""

    record: Record
    offset: int  # of its body in the segment


class Spool:
    """The accepted updates of one round at a time, by device; used from one thread.

    Args:
        root: folder of all rounds.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._round_id = -1
        self._places: dict[Key, _Place] = {}
        self._end = 0  # of what is on the disk for good
        self._batch: list[tuple[Record, bytes]] = []
        self._waiting_bytes = 0
        self._moved: list[Path] = []  # bodies of the batch

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the bodies that are stored for good, by device, in hexadecimal.

        Of updates that were trained for this round; `keys` names the others too.
        """
        return {
            device: place.record.body_digest
            for (device, origin), place in sorted(self._places.items())
            if origin == self._round_id
        }

    @property
    def keys(self) -> list[Key]:
        """Of everything that is stored for good: device, and the round it was trained for."""
        return sorted(self._places)

    @property
    def waiting(self) -> int:
        """How many updates wait for `commit`."""
        return len(self._batch)

    @property
    def waiting_bytes(self) -> int:
        """How long their bodies are, but for those in files."""
        return self._waiting_bytes

    def open(self, round_id: int) -> list[Damage]:
        """Turn to a round: find what is stored of it, and cut off what a crash has torn.

        Returns:
            What the disk has damaged; it is forgotten, so that it is told once.

        Raises:
            OSError: the disk is at fault.
        """
        self._forget(round_id)
        if not self._segment.exists():
            return []
        content = scan(self._segment)
        good, damages, torn = [], [], False
        for item in content.items:
            damage = self._damage(item)
            if damage is None and isinstance(item, Found):
                good.append(item)
            elif damage is not None and item.offset < content.marked:
                damages.append(damage)
            else:
                torn = True  # nobody was told that it is stored
        if damages or torn:
            good = self._rewrite(good)
        else:
            os.truncate(self._segment, content.whole)
            self._end = content.whole
        for item in good:
            self._places[item.record.key] = _Place(record=item.record, offset=item.body_offset)
        self._remove_strays()
        return damages

    @classmethod
    def inspected(cls, root: Path, round_id: int) -> tuple[int, list[Damage]]:
        """How many updates of a round are whole, and the damage; nothing is changed.

        Raises:
            OSError: the disk is at fault.
        """
        spool = cls(root)
        spool._forget(round_id)
        content = scan(spool._segment)
        damages = [spool._damage(item) for item in content.items if item.offset < content.marked]
        found = [damage for damage in damages if damage is not None]
        return len(damages) - len(found), found

    def begin(self, round_id: int) -> None:
        """Turn to a round of which nothing is stored yet; what was of it before is void."""
        self._forget(round_id)
        if self._segment.parent.exists():
            shutil.rmtree(self._segment.parent, ignore_errors=True)
            with suppress(OSError):  # the next batch writes over it
                sync_folder(self._root)

    def add(self, device: str, update: Update, body: Body) -> None:
        """Have an update stored with the next `commit`.

        Args:
            device: who sent it; it has none in the batch yet.
            update, body: what came. The file of a body is moved at once.

        Raises:
            OSError: its file cannot be moved.
        """
        record = Record(
            device=device,
            origin_round=update.round_id,
            header=cbor.dumps(to_header(update)),
            body_bytes=body.size,
            body_digest=body.digest,
            apart=isinstance(body, File),
        )
        if isinstance(body, File):
            target = self._body_path(body.digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            body.path.replace(target)
            self._moved.append(target)
        self._batch.append((record, b"" if record.apart else body.read()))
        self._waiting_bytes += len(self._batch[-1][1])

    def commit(self) -> None:
        """Put the batch on the disk; it is there when this returns.

        Raises:
            OSError: it is full, or at fault. Nothing of the batch is stored then.
        """
        if not self._batch:
            return
        data, offsets = self._encode()
        try:
            self._write(data)
        except BaseException:
            self._take_back()
            raise
        self._end += len(data)
        for (record, _), offset in zip(self._batch, offsets, strict=True):
            self._places[record.key] = _Place(record=record, offset=offset)
        self._drop_batch()

    def load(self, device: str, origin: int | None = None) -> tuple[Update, bytes]:
        """The update of a device, and its body.

        Args:
            device: who sent it.
            origin: the round that it was trained for; by default this one.

        Raises:
            OSError: it cannot be read.
            RemoteProtocolError: the disk has damaged it.
        """
        place = self._place_of(device, origin)
        body = self._body_of(place).read()
        if Bytes(body).digest != place.record.body_digest:
            raise RemoteProtocolError(DAMAGED)
        return from_header(Update, cbor.loads(place.record.header)), body

    def body(self, device: str, origin: int | None = None) -> Body:
        """The body of an update, to be read in pieces; nothing is checked."""
        return self._body_of(self._place_of(device, origin))

    def clear(self, but: Collection[int]) -> None:
        """Remove every round but some; what cannot be removed is left for the next time."""
        kept = {str(round_id) for round_id in but}
        for folder in self._root.iterdir() if self._root.exists() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, round_id: int) -> None:
        self._round_id, self._places, self._end = round_id, {}, 0
        self._drop_batch()

    def _drop_batch(self) -> None:
        self._batch, self._moved, self._waiting_bytes = [], [], 0

    def _place_of(self, device: str, origin: int | None) -> _Place:
        return self._places[device, self._round_id if origin is None else origin]

    @property
    def _segment(self) -> Path:
        return self._folder_of(self._round_id) / SEGMENT

    def _folder_of(self, round_id: int) -> Path:
        return self._root / str(round_id)

    def _body_path(self, digest: str) -> Path:
        return self._folder_of(self._round_id) / f"{digest}{BODY}"

    def _encode(self) -> tuple[bytes, list[int]]:
        """The bytes of the batch with its mark, and where its bodies will be in the segment."""
        pieces, offsets, end = [], [], self._end
        for record, body in self._batch:
            pieces.append(record.encode(body))
            end += len(pieces[-1])
            offsets.append(end - len(body))
        pieces.append(encode_mark(end))
        return b"".join(pieces), offsets

    def _write(self, data: bytes) -> None:
        for target in self._moved:
            sync_file(target)
        is_new = not self._segment.exists()
        self._segment.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._segment, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            view, at = memoryview(data), self._end
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            os.ftruncate(descriptor, at)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if is_new or self._moved:
            sync_folder(self._segment.parent)
        if is_new:
            sync_folder(self._root)

    def _take_back(self) -> None:
        """Undo what there is of a batch that could not be stored."""
        for target in self._moved:
            with suppress(OSError):
                target.unlink()
        with suppress(OSError):
            os.truncate(self._segment, self._end)
        self._drop_batch()

    def _damage(self, item: Found | Gap) -> Damage | None:
        if isinstance(item, Gap):
            return Damage(device=item.device, reason=DAMAGED)
        try:
            body = self._body_of(_Place(record=item.record, offset=item.body_offset))
            is_whole = digest_of(body) == item.record.body_digest
        except OSError:
            is_whole = False
        return None if is_whole else Damage(device=item.record.device, reason=DAMAGED)

    def _body_of(self, place: _Place) -> BodyAt:
        record = place.record
        path, offset = self._segment, place.offset
        if record.apart:
            path, offset = self._body_path(record.body_digest), 0
        return BodyAt(path, offset, record.body_bytes, record.body_digest)

    def _rewrite(self, good: list[Found]) -> list[Found]:
        """Make the segment one of undamaged records only."""
        fresh = self._segment.with_name(f".{SEGMENT}")
        moved, end = [], 0
        with self._segment.open("rb") as old, fresh.open("wb") as new:
            for item in good:
                old.seek(item.offset)
                new.write(old.read(item.end - item.offset))
                moved.append(item.moved_to(end))
                end = moved[-1].end
            new.write(encode_mark(end))
            new.flush()
            os.fsync(new.fileno())
            self._end = new.tell()
        fresh.replace(self._segment)
        sync_folder(self._segment.parent)
        return moved

    def _remove_strays(self) -> None:
        """Bodies that were moved here by a batch that was never stored, or were damaged."""
        known = {f"{one.record.body_digest}{BODY}" for one in self._places.values()}
        for path in self._segment.parent.glob(f"*{BODY}"):
            if path.name not in known:
                path.unlink()
