"""A message on the disk: its head in `x.head`, its body beside it in `x.body`.

The head names the digest of the body, and is written last: where a process was killed in between,
the two do not fit, which whoever reads them finds out by `File.verify`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedsparse.body import NO_BODY, Body, Bytes, File
from fedsparse.durable import move_durably, write_durably
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import MAX_CHUNK_BYTES, Absent
from fedsparse.wire.headers import decode_envelope, encode_message, encode_message_head
from fedsparse.wire.messages import Message

HEAD: Final = ".head"
BODY: Final = ".body"


def save_message(path: Path, message: Message, body: Body) -> None:
    """Keep a message at `path`, which ends in `.head`; a body that is a file is moved there.

    Raises:
        OSError: the disk is full, or does not work.
    """
    if not body.size:
        write_durably(path, encode_message(message))
        return
    target = path.with_suffix(BODY)
    if not isinstance(body, File):
        write_durably(target, body.read())
    elif body.path != target:
        move_durably(body.path, target)
    absent = Absent(digest=body.digest, size=body.size, chunk_bytes=MAX_CHUNK_BYTES)
    write_durably(path, encode_message_head(message, absent))


def load_message(path: Path) -> tuple[Message, Body]:
    """The message that was kept at `path`; its body is not verified.

    Raises:
        OSError: it is not there, or cannot be read.
        RemoteProtocolError: the head is damaged.
    """
    message, absent = decode_envelope(path.read_bytes())
    if not isinstance(absent, Absent):
        return message, NO_BODY
    return message, File(path=path.with_suffix(BODY), size=absent.size, digest=absent.digest)


def read_message(path: Path) -> tuple[Message, bytes]:
    """The message that was kept at `path`, with the bytes of its body, verified.

    Raises:
        OSError: it is not there, or cannot be read.
        RemoteProtocolError: head or body are damaged.
    """
    message, body = load_message(path)
    data = body.read()
    if body.size and Bytes(data).digest != body.digest:
        raise RemoteProtocolError("the body is not the one that the head names")
    return message, data


def remove_message(path: Path) -> None:
    """Forget the message at `path`."""
    path.unlink(missing_ok=True)
    path.with_suffix(BODY).unlink(missing_ok=True)
