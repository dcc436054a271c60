"""All that a place has on this machine, and how it is taken away, whoever does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_client.emulation.group import Group
from edge_client.emulation.members import end_all, left_over_marks, marked
from edge_client.emulation.namespace import remove_namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What is to be taken away.

    Attributes:
        place: its name; the mark of its processes and the name of its namespace.
        groups: its control groups.
    """

    place: str
    groups: tuple[Group, ...] = ()

    def members(self) -> set[int]:
        """The processes in it."""
        return marked(self.place).union(*(group.members() for group in self.groups))

    def remove(self) -> None:
        """Kill its processes, then take away groups and namespace. Twice does no harm."""
        end_all(self.members)
        for group in self.groups:
            group.remove()
        remove_namespace(self.place)

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        groups = [[group.version, str(group.folder)] for group in self.groups]
        return {"place": self.place, "groups": groups}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Belongings:
        """Read what `to_document` made."""
        groups = (
            Group(version=int(version), folder=Path(folder))
            for version, folder in document["groups"]
        )
        return cls(place=str(document["place"]), groups=tuple(groups))


def end_left_overs() -> None:
    """End the processes of places whose makers are dead. Groups are cleared where they are made."""
    for place in left_over_marks():
        Belongings(place=place).remove()
