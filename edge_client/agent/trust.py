"""Whom the agent believes: the gateway that the device was enrolled with."""

from __future__ import annotations

from edge_client.config import ClientConfig
from edge_client.identity.folder import IdentityFolder
from fedsparse.errors import ConfigError
from fedsparse.transport.trust import Trust
from fedsparse.wire.signing import Trusted


def enrolled(config: ClientConfig) -> IdentityFolder | None:
    """The identity, where it came by enrolment: others are made and renewed by other hands."""
    try:
        folder = IdentityFolder.of(config)
        folder.read_home()
    except ConfigError:
        return None
    return folder


def trust_in_gateway(config: ClientConfig) -> Trust | None:
    """What is to be signed, and by whom; None where the device was not enrolled.

    Raises:
        ConfigError: it was, but the gateway's keys are missing or damaged.
    """
    folder = enrolled(config)
    if folder is None:
        return None
    return Trust(signer=None, keys=GatewayKeys(folder))


class GatewayKeys:
    """The gateway's keys, as the last renewal has left them.

    Args:
        folder: of the identity.

    Raises:
        ConfigError: they are missing or damaged.
    """

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder
        self._known = self._read()

    def __call__(self, device: str) -> Trusted:
        """Whose signatures are good, whatever the topic."""
        if self._folder.gateway.stat().st_mtime_ns != self._known[0]:
            self._known = self._read()
        return self._known[1]

    def _read(self) -> tuple[int, Trusted]:
        keys = self._folder.gateway_keys()
        return self._folder.gateway.stat().st_mtime_ns, Trusted(keys)
