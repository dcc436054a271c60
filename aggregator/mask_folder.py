"""Masks on the gateway's disk, as packed bits in files named by their digest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedsparse.durable import write_durably
from fedsparse.errors import RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity.packing import mask_digest, pack, unpack
from fedsparse.types import BoolArray


class MaskFolder:
    """`<folder>/<digest>.bits`; a file is written once and changed only where it is damaged.

    Args:
        plan: whose masks they are.
        folder: is created with the first mask.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder

    def save(self, mask: BoolArray) -> str:
        """Keep a mask `(num_prunable,)`, on the disk when this returns its digest."""
        digest, bits = mask_digest(self._plan.digest, mask), pack(mask)
        path = self._path(digest)
        if not path.exists() or path.read_bytes() != bits:
            write_durably(path, bits)
        return digest

    def load(self, digest: str) -> BoolArray | None:
        """The mask of this digest; None where it is not here, or damaged."""
        path = self._path(digest)
        if not digest or not path.exists():
            return None
        try:
            mask = unpack(path.read_bytes(), self._plan.num_prunable)
        except RemoteProtocolError:
            return None
        return mask if mask_digest(self._plan.digest, mask) == digest else None

    def digests(self) -> list[str]:
        """Of the files that are here, oldest first."""
        files = [(path.stat().st_mtime_ns, path.stem) for path in self._folder.glob("*.bits")]
        return [digest for _, digest in sorted(files)]

    def remove_all_but(self, digests: Collection[str]) -> None:
        """Forget every other mask."""
        for path in self._folder.glob("*.bits"):
            if path.stem not in digests:
                path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.bits"
