"""The frame that every payload is (docs/wire.md, section 2).

offset  size  field
0       2     magic, "FS"
2       1     version, 1
3       1     kind: 1 to 8 a message, 16 a chunk
4       4     header length H, little-endian
8       H     header, CBOR
8 + H   ...   body, raw little-endian
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire import cbor

MAGIC: Final = b"FS"
VERSION: Final = 1
MAX_HEADER_BYTES: Final = 64 * 1024
CHUNK: Final = 16  # the kind of a chunk; it carries a crc32 and needs no sha256
SHA256: Final = "sha256"  # the header key of the body's digest
PROLOGUE: Final = struct.Struct("<2sBBI")


class UnsupportedVersionError(RemoteProtocolError):
    """The peer speaks a version of the contract that this build does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A checked frame.

    Attributes:
        kind: what the header describes.
        header: its fields, without the body's digest.
        body: not copied; the digest has been verified.
    """

    kind: int
    header: Mapping[str, Any]
    body: memoryview


def encode_head(kind: int, header: Mapping[str, Any], body: bytes | memoryview) -> bytes:
    """All of a frame that precedes its body: `encode_head(...) + body` is the frame."""
    fields = dict(header)
    if kind != CHUNK and len(body):
        fields[SHA256] = hashlib.sha256(body).digest()
    encoded = cbor.dumps(fields)
    if len(encoded) > MAX_HEADER_BYTES or not 0 < kind < 256:
        raise LocalProtocolError(f"a header of {len(encoded)} bytes for a frame of kind {kind}")
    return PROLOGUE.pack(MAGIC, VERSION, kind, len(encoded)) + encoded


def encode_frame(kind: int, header: Mapping[str, Any], body: bytes | memoryview = b"") -> bytes:
    """Encode a frame; the body's digest is added to the header of a message.

    Raises:
        LocalProtocolError: the header is larger than `MAX_HEADER_BYTES`.
    """
    return b"".join((encode_head(kind, header, body), body))


def decode_frame(data: bytes | memoryview) -> Frame:
    """Split a frame into its header and its body; lengths are checked before parsing.

    Raises:
        UnsupportedVersionError: the frame is of another version of the contract.
        RemoteProtocolError: the frame is broken in any other way.
    """
    view = memoryview(data).toreadonly()
    if len(view) < PROLOGUE.size:
        raise RemoteProtocolError(f"a frame of {len(view)} bytes is too short")
    magic, version, kind, size = PROLOGUE.unpack_from(view)
    if magic != MAGIC:
        raise RemoteProtocolError(f"not a frame: it starts with {magic!r}")
    if version != VERSION:
        raise UnsupportedVersionError(
            f"the peer speaks version {version} of the wire contract, this build {VERSION}: "
            "update the older of the two"
        )
    if size > MAX_HEADER_BYTES or PROLOGUE.size + size > len(view):
        raise RemoteProtocolError(f"header length {size} in a frame of {len(view)} bytes")
    header = cbor.loads(bytes(view[PROLOGUE.size : PROLOGUE.size + size]))
    body = view[PROLOGUE.size + size :]
    _check_body(kind, header.pop(SHA256, None), body)
    return Frame(kind=kind, header=header, body=body)


def _check_body(kind: int, digest: object, body: memoryview) -> None:
    if kind == CHUNK or (digest is None and not len(body)):
        return
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise RemoteProtocolError(f"a body of {len(body)} bytes without its SHA-256")
    if hashlib.sha256(body).digest() != digest:
        raise RemoteProtocolError(f"a body of {len(body)} bytes does not match its SHA-256")
