"""One end of a transfer of a large body, in a process of its own.

    python -m tools.bench.transport.large_end device|gateway FOLDER PORT

It obeys `{"end": true}`, `{"send": {"path", "size", "digest"}}` and says `warm` when a small body
has gone each way, then `arrived` with the digest of each body that came.
"""

from __future__ import annotations

import json
import random
import selectors
import sys
from pathlib import Path
from typing import Any, Final

from fedsparse.body import Body, Bytes, File, digest_of
from fedsparse.transport.channel import Announced, Delivered
from fedsparse.transport.config import BrokerConfig
from fedsparse.wire.messages import Status
from tools.bench.transport.slow_link import DEVICE, POLL_S, large_message, open_channel

WARM: Final = 300_000  # bytes of a body that makes both ends load all that they need


class LargeEnd:
    """A device or the gateway.

    Args:
        device: whether it is the device.
        folder: for what is on its way.
        port: of the broker on this machine.
    """

    def __init__(self, folder: Path, port: int, *, device: bool) -> None:
        self._is_device = device
        self._channel = open_channel(folder, BrokerConfig(port=port), DEVICE if device else "")
        self._warm = Bytes(random.Random(2).randbytes(WARM))  # noqa: S311 (no secret)
        self._ended = False

    def run(self) -> None:
        """Until stdin says the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.buffer, selectors.EVENT_READ)
            while not self._ended:
                self._take(self._channel.poll(POLL_S))
                if selector.select(0):
                    self._obey(sys.stdin.buffer.readline())
        self._channel.close()

    def _obey(self, line: bytes) -> None:
        word: dict[str, Any] = json.loads(line) if line else {"end": True}
        self._ended = "end" in word
        if "send" in word:
            path, size, digest = (word["send"][name] for name in ("path", "size", "digest"))
            self._send(File(path=Path(path), size=size, digest=digest))

    def _send(self, body: Body) -> None:
        to, message = large_message(body, up=self._is_device)
        self._channel.send(to, message, body)

    def _take(self, event: object) -> None:
        if isinstance(event, Announced):
            self._channel.accept(event)
        elif isinstance(event, Delivered) and event.body.size == WARM:
            if self._is_device:
                self._send(self._warm)
            _say(warm=True)
        elif isinstance(event, Delivered) and isinstance(event.message, Status):
            self._send(self._warm)  # the device is there, and answers with its own
        elif isinstance(event, Delivered):
            _say(arrived=digest_of(event.body))


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    LargeEnd(Path(sys.argv[2]), int(sys.argv[3]), device=sys.argv[1] == "device").run()
