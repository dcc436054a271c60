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

from fedsparse.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from fedsparse.wire import cbor

MAGIC: Final = b"FS"
VERSION: Final = 1
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_CHUNK_BYTES: Final = 256 * 1024
MAX_CHUNKS: Final = 65_536  # of one body
CHUNK: Final = 16  # the kind of a chunk; it carries a crc32 and needs no sha256
SHA256: Final = "sha256"  # the header key of the body's digest,
SIZE: Final = "bz"  # and of a head: how long the body is that is not in its frame,
CHUNK_BYTES: Final = "cb"  # and into how large chunks its sender cuts it
PROLOGUE: Final = struct.Struct("<2sBBI")


class UnsupportedVersionError(RemoteProtocolError):
    """The peer speaks a version of the contract that this build does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The body of a head: it comes apart, in chunks of one size, the last of which has the rest.

    Attributes:
        digest: its SHA-256, in hexadecimal; also the id of the transfer.
        size: its length in bytes.
        chunk_bytes: of every chunk but the last.
    """

    digest: str
    size: int
    chunk_bytes: int

    def __post_init__(self) -> None:
        if not 0 < self.size < 2**40 or not 0 < self.chunk_bytes <= MAX_CHUNK_BYTES:
            raise ProtocolError(f"{self.size} bytes in chunks of {self.chunk_bytes}")
        if self.count > MAX_CHUNKS:
            raise ProtocolError(f"{self.count} chunks, limit {MAX_CHUNKS}")

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.size // self.chunk_bytes)

    def offset(self, index: int) -> int:
        """Where chunk `index` begins."""
        return index * self.chunk_bytes

    def length(self, index: int) -> int:
        """Bytes of chunk `index`."""
        return min(self.chunk_bytes, self.size - self.offset(index))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A checked frame.

    Attributes:
        kind: what the header describes.
        header: its fields, without those about the body.
        digest: SHA-256 of the body of a message, as it was said; empty where it has none.
        body: not copied; the digest has been verified.
        absent: of a head, what its body will be.
    """

    kind: int
    header: Mapping[str, Any]
    body: memoryview
    digest: bytes = b""
    absent: Absent | None = None


def encode_frame(kind: int, header: Mapping[str, Any], body: bytes | memoryview = b"") -> bytes:
    """Encode a frame; the body's digest is added to the header of a message.

    Raises:
        LocalProtocolError: the header is larger than `MAX_HEADER_BYTES`.
    """
    fields = dict(header)
    if kind != CHUNK and len(body):
        fields[SHA256] = hashlib.sha256(body).digest()
    return b"".join((_encode_header(kind, fields), body))


def encode_head(kind: int, header: Mapping[str, Any], absent: Absent) -> bytes:
    """Encode a head: a frame whose body comes apart.

    Raises:
        LocalProtocolError: the header is larger than `MAX_HEADER_BYTES`.
    """
    about = {SHA256: bytes.fromhex(absent.digest), SIZE: absent.size}
    return _encode_header(kind, {**header, **about, CHUNK_BYTES: absent.chunk_bytes})


def _encode_header(kind: int, fields: dict[str, Any]) -> bytes:
    encoded = cbor.dumps(fields)
    if len(encoded) > MAX_HEADER_BYTES or not 0 < kind < 256:
        raise LocalProtocolError(f"a header of {len(encoded)} bytes for a frame of kind {kind}")
    return PROLOGUE.pack(MAGIC, VERSION, kind, len(encoded)) + encoded


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
    if kind != CHUNK and SIZE in header:
        absent = _read_absent(header, body)
        digest = bytes.fromhex(absent.digest)
        return Frame(kind=kind, header=header, body=body, digest=digest, absent=absent)
    digest = header.pop(SHA256, None)
    _check_body(kind, digest, body)
    return Frame(kind=kind, header=header, body=body, digest=digest or b"")


def _read_absent(header: dict[str, Any], body: memoryview) -> Absent:
    """What a head says of its body; its keys are taken out of the header."""
    digest, size, chunk = (header.pop(key, None) for key in (SHA256, SIZE, CHUNK_BYTES))
    if len(body):
        raise RemoteProtocolError(f"a head with a body of {len(body)} bytes")
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise RemoteProtocolError("a head without the SHA-256 of its body")
    if type(size) is not int or type(chunk) is not int:
        raise RemoteProtocolError("a head whose sizes are no integers")
    try:
        return Absent(digest=digest.hex(), size=size, chunk_bytes=chunk)
    except ProtocolError as error:
        raise RemoteProtocolError(f"a head of {error}") from error


def _check_body(kind: int, digest: object, body: memoryview) -> None:
    if kind == CHUNK or (digest is None and not len(body)):
        return
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise RemoteProtocolError(f"a body of {len(body)} bytes without its SHA-256")
    if hashlib.sha256(body).digest() != digest:
        raise RemoteProtocolError(f"a body of {len(body)} bytes does not match its SHA-256")
