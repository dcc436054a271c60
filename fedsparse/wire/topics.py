"""The one place where topics are spelled (docs/wire.md, section 1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.messages import NAME, is_digest

ROOT: Final = "fl/v1"
INDEX: Final = re.compile(r"0|[1-9][0-9]{0,5}")


class Branch(str, Enum):
    """What a topic is for."""

    STATUS = "status"  # up/<device>/status, retained
    UP = "up"  # up/<device>/message and its chunks
    DOWN = "down"  # down/<device>/message and its chunks
    ROUND = "round"  # all/round, retained


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a topic says.

    Attributes:
        branch: what it is for.
        device: whose tree it is in; empty for `all/round`.
        transfer, index: of a chunk; the transfer is empty for everything else.
    """

    branch: Branch
    device: str = ""
    transfer: str = ""
    index: int = 0


class Topics:
    """The topics of one fleet; raises `LocalProtocolError` for a name that no topic can hold."""

    def __init__(self, site: str) -> None:
        self.site = _checked("site", site)
        self._base = f"{ROOT}/{site}"

    @property
    def round(self) -> str:
        """Where the gateway announces the open round, retained."""
        return f"{self._base}/all/round"

    def status(self, device: str) -> str:
        """Where a device says who it is, retained; also the topic of its will."""
        return f"{self._base}/up/{_checked('device', device)}/status"

    def message(self, branch: Branch, device: str) -> str:
        """Where messages from (`UP`) or to (`DOWN`) a device go."""
        return f"{self._base}/{_tree(branch)}/{_checked('device', device)}/message"

    def chunk(self, branch: Branch, device: str, transfer: str, index: int) -> str:
        """Where one chunk of a large message from (`UP`) or to (`DOWN`) a device goes."""
        if not is_digest(transfer) or not 0 <= index < 10**6:
            raise LocalProtocolError(f"no topic for chunk {index} of transfer {transfer!r}")
        tree = f"{self._base}/{_tree(branch)}/{_checked('device', device)}"
        return f"{tree}/chunk/{transfer}/{index}"

    def gateway_filters(self) -> tuple[str, ...]:
        """What a gateway subscribes to; the filters do not overlap."""
        up = f"{self._base}/up/+"
        return (f"{up}/status", f"{up}/message", f"{up}/chunk/+/+")

    def device_filters(self, device: str) -> tuple[str, ...]:
        """What a device subscribes to; the filters do not overlap."""
        down = f"{self._base}/down/{_checked('device', device)}"
        return (f"{down}/message", f"{down}/chunk/+/+", self.round)

    def parse(self, topic: str) -> Address:
        """Read a topic.

        Raises:
            RemoteProtocolError: it is none of this fleet's.
        """
        base, levels = topic[: len(self._base) + 1], topic[len(self._base) + 1 :].split("/")
        address = _parse_levels(levels) if base == f"{self._base}/" else None
        if address is None:
            raise RemoteProtocolError(f"no topic of the site '{self.site}': {topic[:200]!r}")
        return address


def _parse_levels(levels: list[str]) -> Address | None:
    if levels == ["all", "round"]:
        return Address(branch=Branch.ROUND)
    if len(levels) < 3 or levels[0] not in ("up", "down") or not NAME.fullmatch(levels[1]):
        return None
    branch, device, rest = Branch(levels[0]), levels[1], levels[2:]
    if rest == ["message"]:
        return Address(branch=branch, device=device)
    if rest == ["status"] and branch is Branch.UP:
        return Address(branch=Branch.STATUS, device=device)
    if len(rest) == 3 and rest[0] == "chunk" and is_digest(rest[1]) and INDEX.fullmatch(rest[2]):
        return Address(branch=branch, device=device, transfer=rest[1], index=int(rest[2]))
    return None


def _tree(branch: Branch) -> str:
    if branch not in (Branch.UP, Branch.DOWN):
        raise LocalProtocolError(f"{branch.name} has no messages of its own")
    return str(branch.value)


def _checked(what: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise LocalProtocolError(
            f"a {what} is 1 to 64 letters, digits, '_', '.' or '-', the first a letter or a "
            f"digit, got {name!r}"
        )
    return name
