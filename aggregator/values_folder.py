"""The encoded values of large models on the gateway's disk, from where devices are sent them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedsparse.body import Body, Bytes, File

IN_MEMORY_BYTES: Final = 1024 * 1024  # values of fewer bytes stay there


class ValuesFolder:
    """`<folder>/<digest>.values`; what is there can be made again, and is not synced.

    Args:
        folder: is created with the first values that are large.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, values: bytes) -> Body:
        """The same values, as a file where they are many."""
        body = Bytes(values)
        if body.size <= IN_MEMORY_BYTES:
            return body
        self._folder.mkdir(parents=True, exist_ok=True)
        file = File(path=self._folder / f"{body.digest}.values", size=body.size, digest=body.digest)
        if not file.path.exists():
            file.path.write_bytes(values)
        return file

    def clear(self) -> None:
        """Remove all; who is still being sent some of them has to be sent others."""
        for path in self._folder.glob("*.values"):
            path.unlink()
