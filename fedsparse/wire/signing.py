"""Who says so: signatures over the headers of messages (docs/wire.md, section 8).

The signed bytes name the topic, and with it site, device and direction; the header names the digest
of the body. So a signature covers all of a message, also where its body comes later, in chunks.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from fedsparse.ed25519 import SIGNATURE_BYTES, PublicKey
from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire import cbor
from fedsparse.wire.messages import Offer, Receipt, Task, Update

DOMAIN: Final = b"fedsparse-1\0"  # what this key signs elsewhere, such as TLS, begins otherwise
SIGNATURE: Final = "sg"
KEY_ID: Final = "ky"
KEY_ID_BYTES: Final = 8
REMEMBERED: Final = 16
BY_GATEWAY: Final = frozenset({Offer.KIND, Task.KIND, Receipt.KIND})
BY_DEVICE: Final = frozenset({Update.KIND})


class SignatureError(RemoteProtocolError):
    """A message that is to be signed is not, or by somebody else."""


class Signer(Protocol):
    """Holds a private key."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others verify with."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of `data`."""
        ...


class VerifyingKey(Protocol):
    """A public key; `fedsparse.ed25519` has one, and who has room for OpenSSL a faster one."""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the key has signed `message` so."""
        ...


def key_id(public_key: bytes) -> bytes:
    """What a message calls the key that it is signed with."""
    return hashlib.sha256(public_key).digest()[:KEY_ID_BYTES]


def signed_bytes(topic: str, kind: int, header: Mapping[str, Any]) -> bytes:
    """What the signature of a message is over.

    Args:
        topic: that it is published on.
        kind: of its frame.
        header: as it travels, with the body's digest and the key's id; a signature is left out.

    Raises:
        LocalProtocolError: the topic or the header is none that could travel.
    """
    if "\0" in topic or not 0 < kind < 256:
        raise LocalProtocolError(f"nothing of kind {kind} travels on {topic!r}")
    fields = {key: value for key, value in header.items() if key != SIGNATURE}
    return DOMAIN + topic.encode() + b"\0" + bytes([kind]) + cbor.dumps(fields)


def with_signature(
    topic: str, kind: int, header: Mapping[str, Any], signer: Signer
) -> dict[str, Any]:
    """The header with the id of the signer's key and its signature."""
    fields = {**header, KEY_ID: key_id(signer.public_key)}
    fields[SIGNATURE] = signer.sign(signed_bytes(topic, kind, fields))
    return fields


class Trusted:
    """The keys that one peer may sign with: one, or two while one replaces the other.

    What was verified before is known by its digest: an offer that is repeated is verified once.

    Args:
        public_keys: 32 bytes each.
        make_key: turns one into what verifies.

    Raises:
        ValueError: one of them is no key.
    """

    def __init__(
        self,
        public_keys: Iterable[bytes],
        make_key: Callable[[bytes], VerifyingKey] = PublicKey,
    ) -> None:
        self._keys = {key_id(encoded): make_key(encoded) for encoded in public_keys}
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    def check(self, topic: str, kind: int, header: Mapping[str, Any]) -> None:
        """Let a message pass that came on `topic`, with all of its header.

        Raises:
            SignatureError: it is not signed by one of the keys, or not as it is here.
        """
        signature, wanted = header.get(SIGNATURE), header.get(KEY_ID)
        if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
            raise SignatureError(f"a message of kind {kind} that is not signed")
        if type(wanted) is not bytes or wanted not in self._keys:
            name = wanted.hex() if type(wanted) is bytes else "no name"
            raise SignatureError(f"a message of kind {kind} signed by an unknown key ({name[:16]})")
        data = signed_bytes(topic, kind, header)
        digest = hashlib.sha256(signature + data).digest()
        if digest not in self._verified and not self._keys[wanted].verifies(signature, data):
            raise SignatureError(f"a message of kind {kind} on {topic} with a wrong signature")
        self._remember(digest)

    def _remember(self, digest: bytes) -> None:
        self._verified[digest] = None
        self._verified.move_to_end(digest)
        while len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
