"""Whom the agent believes: the gateway that the device was enrolled with."""

from __future__ import annotations

import logging

from edge_client.config import ClientConfig
from edge_client.identity.folder import IdentityFolder
from fedsparse.errors import ConfigError
from fedsparse.transport.trust import Trust
from fedsparse.wire.signing import Trusted

log = logging.getLogger("edge-client")


def enrolled(config: ClientConfig) -> IdentityFolder | None:
    """The identity, where it came by enrolment: others are made and renewed by other hands.

    Raises:
        ConfigError: it did, but is damaged. A device that went on without it would believe anybody.
    """
    try:
        folder = IdentityFolder.of(config)
    except ConfigError:
        return None
    if not folder.home.exists() and not folder.gateway.exists():
        return None
    folder.read_home()
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
    """The gateway's keys, as the last renewal has left them; damaged later, those of before.

    Args:
        folder: of the identity.

    Raises:
        ConfigError: they are missing or damaged.
    """

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder
        self._seen = self._changed_ns()
        self._known = self._read()

    def __call__(self, device: str) -> Trusted:
        """Whose signatures are good, whatever the topic."""
        seen = self._changed_ns()
        if seen != self._seen:
            self._seen = seen  # before it is read: what comes in between is read the next time
            try:
                self._known = self._read()
            except ConfigError as error:
                log.error("gateway_keys=kept reason=%r", str(error))
        return self._known

    def _changed_ns(self) -> int:
        try:
            return self._folder.gateway.stat().st_mtime_ns
        except OSError:
            return 0

    def _read(self) -> Trusted:
        try:
            return Trusted(self._folder.gateway_keys())
        except ValueError as error:
            raise ConfigError(f"{self._folder.gateway}: {error}; enrol the device") from error
