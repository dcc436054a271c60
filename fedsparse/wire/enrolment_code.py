"""What people carry from the gateway to a device: a code that is good once, and a fingerprint.

Both are written in Crockford's base 32, which has no letters that look alike. A code has 4
characters that name it and 8 that are secret. The secret never travels: both sides derive a key.

Source: https://www.crockford.com/base32.html; scrypt: RFC 7914.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fedsparse.errors import ConfigError

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LOOK_ALIKE: Final = str.maketrans("ILO", "110")
IGNORED: Final = str.maketrans("", "", "- :\t\r\n")
ID_LENGTH: Final = 4
SECRET_LENGTH: Final = 8
GROUP: Final = 4
SHORT_FINGERPRINT: Final = 16  # characters, 80 bits
KEY_BYTES: Final = 32
# 32 MB and about a tenth of a second on a workstation, for each of 2^40 secrets that are tried.
COST: Final = 2**15
BLOCK_SIZE: Final = 8
MEMORY_BYTES: Final = 64 * 1024 * 1024
DOMAIN: Final = "fedsparse-enrol-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code, as it is typed.

    Attributes:
        code_id: its public part, 4 characters.
        secret: the rest, 8 characters.
    """

    code_id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        """For people: groups of four, such as `ABCD-EFGH-JKMN`."""
        return grouped(self.code_id + self.secret)


def new_code(*, id_taken: Sequence[str] = ()) -> Code:
    """A code that nobody can guess, of another id than those in use."""
    while True:
        drawn = "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH))
        if drawn[:ID_LENGTH] not in id_taken:
            return Code(code_id=drawn[:ID_LENGTH], secret=drawn[ID_LENGTH:])


def parse_code(text: str) -> Code:
    """Read what somebody typed: in any case, with or without dashes, O for 0 and I or L for 1.

    Raises:
        ConfigError: it is no code; the message does not repeat it.
    """
    typed = _canonical(text)
    if len(typed) != ID_LENGTH + SECRET_LENGTH or not set(typed) <= set(ALPHABET):
        raise ConfigError(
            f"a code has {ID_LENGTH + SECRET_LENGTH} letters and digits, such as ABCD-EFGH-JKMN, "
            f"and this is another text of {len(typed)}; `fedsparse identity token DEVICE` on the "
            "gateway makes one"
        )
    return Code(code_id=typed[:ID_LENGTH], secret=typed[ID_LENGTH:])


def derive_key(code: Code, *, site: str, device: str) -> bytes:
    """What proves that somebody knows the code for this device: 32 bytes.

    Takes 32 MB of memory for a moment.
    """
    salt = "|".join((DOMAIN, site, code.code_id, device)).encode()
    return hashlib.scrypt(
        code.secret.encode(), salt=salt, n=COST, r=BLOCK_SIZE, p=1, maxmem=MEMORY_BYTES,
        dklen=KEY_BYTES,
    )  # fmt: skip


def fingerprint(certificate: bytes) -> str:
    """The short fingerprint of a certificate (DER), for people to type."""
    return grouped(_short(certificate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What somebody gave: all 64 hexadecimal digits of a SHA-256, or the short one."""

    text: str

    def matches(self, certificate: bytes) -> bool:
        """Whether it is that of a certificate (DER)."""
        return self.text in (hashlib.sha256(certificate).hexdigest(), _short(certificate))


def parse_fingerprint(text: str) -> Fingerprint:
    """Read a fingerprint.

    Raises:
        ConfigError: it is none.
    """
    digits = text.translate(IGNORED).lower()
    if len(digits) == 64 and set(digits) <= set("0123456789abcdef"):
        return Fingerprint(text=digits)
    typed = _canonical(text)
    if len(typed) != SHORT_FINGERPRINT or not set(typed) <= set(ALPHABET):
        raise ConfigError(
            f"fingerprint {text[:80]!r}: the authority's has {SHORT_FINGERPRINT} letters and "
            "digits, or 64 hexadecimal ones; `fedsparse identity token DEVICE` on the gateway "
            "prints both"
        )
    return Fingerprint(text=typed)


def grouped(text: str) -> str:
    """Characters in groups of four."""
    return "-".join(text[i : i + GROUP] for i in range(0, len(text), GROUP))


def _canonical(text: str) -> str:
    return text.translate(IGNORED).upper().translate(LOOK_ALIKE)


def _short(certificate: bytes) -> str:
    digest = int.from_bytes(hashlib.sha256(certificate).digest(), "big")
    number = digest >> (256 - 5 * SHORT_FINGERPRINT)
    return "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(SHORT_FINGERPRINT)))
