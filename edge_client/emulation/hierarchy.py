"""Where this process may make control groups: its own, and those above it, in both versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A mounted hierarchy of control groups.

    Attributes:
        version: 1 or 2.
        mount: where it is mounted.
        top: the group that is seen at the mount; `/` but in a container.
        own: this process's group, counted from the outermost one.
        controllers: of version 1; version 2 says it group by group.
    """

    version: int
    mount: Path
    top: PurePosixPath
    own: PurePosixPath
    controllers: frozenset[str]

    def candidates(self) -> Iterator[Path]:
        """The folders of this process's group and of all above it, as far as they are seen."""
        inner = self.own
        if self.top != PurePosixPath("/") and self.own.is_relative_to(self.top):
            inner = self.own.relative_to(self.top)
        parts = [part for part in inner.parts if part not in ("/", "..")]
        for depth in range(len(parts), -1, -1):
            folder = self.mount.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def unified(root: Path = ROOT) -> Hierarchy | None:
    """The hierarchy of version 2; None where it is not mounted.

    Args:
        root: the folder that stands for `/`.
    """
    return next((one for one in _hierarchies(root) if one.version == 2), None)


def legacy(controller: str, root: Path = ROOT) -> Hierarchy | None:
    """The hierarchy of version 1 that has a controller; None where it is not mounted."""
    found = (one for one in _hierarchies(root) if controller in one.controllers)
    return next(found, None)


def _hierarchies(root: Path) -> Iterator[Hierarchy]:
    own = dict(_own_groups(root))
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        fields = before.split()
        if kind not in ("cgroup", "cgroup2") or len(fields) < 5:
            continue
        names = frozenset(options.split()[-1].split(",")) if kind == "cgroup" else frozenset("")
        group = next((own[name] for name in (names or {""}) if name in own), PurePosixPath("/"))
        yield Hierarchy(
            version=2 if kind == "cgroup2" else 1,
            mount=root / fields[4].lstrip("/"),
            top=PurePosixPath(fields[3]),
            own=group,
            controllers=names,
        )


def _own_groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Controller -> this process's group; version 2 goes by the empty name."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for name in controllers.split(","):
            yield name, PurePosixPath(group)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
