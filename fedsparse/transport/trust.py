"""Whose word one end of the contract takes, and with which key it signs its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import Frame
from fedsparse.wire.signing import Signer, Trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """In a fleet with an authority: who signs, and who is believed (docs/wire.md, section 8).

    Attributes:
        signer: signs what this end says; None where that comes signed, as on a device, whose
            trainer has the key.
        keys: yields whose signatures are good, by the name of the device that the topic is of;
            None where nobody's are.
    """

    signer: Signer | None
    keys: Callable[[str], Trusted | None]

    def check(self, device: str, topic: str, frame: Frame) -> None:
        """Let a frame pass that must be signed.

        Raises:
            RemoteProtocolError: it is not, or not by somebody who is believed.
        """
        keys = self.keys(device)
        if keys is None:
            raise RemoteProtocolError("nobody of this name has a certificate that is good")
        keys.check_frame(topic, frame)
