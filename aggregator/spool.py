"""The updates of the open round on disk: nothing in memory is the only copy of one."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from fedsparse.durable import write_durably
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.headers import decode_message


class Spool:
    """`<root>/<round>/<device>.update`: whole frames, as they came."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def store(self, round_id: int, device: str, frame: bytes | memoryview) -> None:
        """Keep an update; it is on the disk when this returns."""
        write_durably(self._path(round_id, device), frame)

    def load(self, round_id: int, device: str) -> bytes:
        """The frame that was stored."""
        return self._path(round_id, device).read_bytes()

    def digests(self, round_id: int) -> dict[str, str | None]:
        """Digest of the body by device, of a round's frames; None of a damaged one, now removed.

        A device whose frame is gone is asked again, since it has not delivered.
        """
        found: dict[str, str | None] = {}
        for path in sorted((self._root / str(round_id)).glob("*.update")):
            try:
                _, body = decode_message(path.read_bytes())
            except (OSError, RemoteProtocolError):
                found[path.stem] = None
                with suppress(OSError):
                    path.unlink()
                continue
            found[path.stem] = hashlib.sha256(body).hexdigest()
        return found

    def clear(self, but: int) -> None:
        """Remove every round but one."""
        for folder in self._root.iterdir():
            if folder.name != str(but):
                shutil.rmtree(folder)

    def _path(self, round_id: int, device: str) -> Path:
        return self._root / str(round_id) / f"{device}.update"
