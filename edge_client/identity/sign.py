"""Sign an update as the device: the last thing of a task, in the place of its trainer.

The trainer's process becomes this one (`become`): its memory is given back before the cryptography
takes some, and the code that reads samples and tasks never has the key.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from fedsparse.errors import FedSparseError, RemoteProtocolError
from fedsparse.stored import load_message, save_message
from fedsparse.wire.messages import Update
from fedsparse.wire.signing import signed

EXIT_REFUSED: Final = 2  # as of a trainer; the reason is the last line of stderr


def become(*, unsigned: Path, output: Path, identity: Path, topic: str) -> None:
    """Turn this process into one that signs an update and ends; does not return.

    Args:
        unsigned: the update, as it was trained (fedsparse/stored.py).
        output: where the signed one is to be.
        identity: certificate and key of the device.
        topic: that the update will be published on.
    """
    sys.stderr.flush()
    arguments = [str(unsigned), str(output), str(identity), topic]
    os.execv(sys.executable, [sys.executable, "-m", __name__, *arguments])  # noqa: S606


def sign_update(unsigned: Path, output: Path, identity: Path, topic: str) -> None:
    """Move an update to `output`, signed.

    Raises:
        FedSparseError: the key cannot be read, or there is no update.
        OSError: the disk is full, or does not work.
    """
    from edge_client.identity.keys import DeviceKey

    update, body = load_message(unsigned)
    if not isinstance(update, Update):
        raise RemoteProtocolError(f"{unsigned}: a {type(update).__name__} in place of an update")
    key = DeviceKey.read(identity.read_bytes(), identity)
    digest = body.digest if body.size else ""
    save_message(output, signed(update, topic, digest, key), body)
    unsigned.unlink()


def main() -> int:
    """The process that `become` turns into."""
    unsigned, output, identity, topic = sys.argv[1:]
    try:
        sign_update(Path(unsigned), Path(output), Path(identity), topic)
    except (FedSparseError, OSError) as error:
        sys.stderr.write(f"the update cannot be signed: {error}\n")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
