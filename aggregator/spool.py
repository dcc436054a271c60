"""The updates of the open round on disk: nothing in memory is the only copy of one."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedsparse.body import Body, File
from fedsparse.errors import RemoteProtocolError
from fedsparse.stored import HEAD, load_message, read_message, remove_message, save_message
from fedsparse.wire.messages import Message, Update


class Spool:
    """`<root>/<round>/<device>.head` and `.body`: updates as they came (fedsparse/stored.py)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def store(self, device: str, update: Update, body: Body) -> None:
        """Keep an update; it is on the disk when this returns."""
        save_message(self._path(update.round_id, device), update, body)

    def load(self, round_id: int, device: str) -> tuple[Message, bytes]:
        """What was stored, with its body.

        Raises:
            OSError, RemoteProtocolError: the disk has damaged it.
        """
        return read_message(self._path(round_id, device))

    def digests(self, round_id: int) -> dict[str, str | None]:
        """Digest of the body by device, of a round's updates; None of a damaged one, now removed.

        A device whose update is gone is asked again, since it has not delivered.
        """
        found: dict[str, str | None] = {}
        for path in sorted((self._root / str(round_id)).glob(f"*{HEAD}")):
            try:
                _, body = load_message(path)
                is_whole = not isinstance(body, File) or body.verify()
            except (OSError, RemoteProtocolError):
                is_whole = False
            found[path.stem] = body.digest if is_whole else None
            if not is_whole:
                remove_message(path)
        return found

    def clear(self, but: int) -> None:
        """Remove every round but one."""
        for folder in self._root.iterdir():
            if folder.name != str(but):
                shutil.rmtree(folder)

    def _path(self, round_id: int, device: str) -> Path:
        return self._root / str(round_id) / f"{device}{HEAD}"
