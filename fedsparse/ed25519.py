"""Verification of Ed25519 signatures with integers alone, for processes without room for OpenSSL.

Nothing here is secret, so nothing needs to take constant time; who signs uses a real library
(`cryptography`). Stricter than most where signatures may be bent: a public key that is not written
in the canonical way, or whose order is small (it would verify anything), is none; S must be below
the order of the group; R is compared as bytes.

Source: RFC 8032, section 5.1; formulas for extended coordinates: Hisil, Wong, Carter and Dawson,
"Twisted Edwards Curves Revisited" (2008), sections 3.1 and 3.3.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final, TypeAlias

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
P: Final = 2**255 - 19  # the field
L: Final = 2**252 + 27742317777372353535851937790883648493  # the order of the base point
D: Final = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE: Final = pow(2, (P - 1) // 4, P)
Y_BITS: Final = 2**255 - 1
BASE_WINDOW: Final = 7  # of the base point, whose multiples are found once in a process
KEY_WINDOW: Final = 5

Point: TypeAlias = tuple[int, int, int, int]  # X, Y, Z, T: x = X / Z, y = Y / Z, x y = T / Z
Addend: TypeAlias = tuple[int, int, int, int]  # Y + X, Y - X, 2 d T, 2 Z: a point to be added often
NEUTRAL: Final[Point] = (0, 1, 1, 0)


class PublicKey:
    """A key that signatures are verified with.

    Args:
        encoded: its 32 bytes.

    Raises:
        ValueError: they are no point of the curve, not the shortest way to write it, or a point of
            small order.
    """

    def __init__(self, encoded: bytes) -> None:
        self.encoded = bytes(encoded)
        point = _decode(self.encoded)
        eightfold = _double(_double(_double(point)))
        if eightfold[0] == 0:  # (0, 1) or (0, -1)
            raise ValueError("a public key of small order verifies anything")
        self._minus = _odd_multiples(_negative(point), KEY_WINDOW)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the key has signed `message` so; False for whatever is malformed."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        scalar = int.from_bytes(signature[32:], "little")
        if scalar >= L:
            return False
        digest = hashlib.sha512(signature[:32] + self.encoded + message).digest()
        challenge = int.from_bytes(digest, "little") % L
        return _encode(self._combined(challenge, scalar)) == signature[:32]

    def _combined(self, challenge: int, scalar: int) -> Point:
        """`scalar` times the base point minus `challenge` times the key."""
        ours = _signed_digits(challenge, KEY_WINDOW)
        base = _signed_digits(scalar, BASE_WINDOW)
        multiples, total = _base_multiples(), NEUTRAL
        for place in range(max((*ours, *base), default=-1), -1, -1):
            total = _double(total)
            if place in ours:
                total = _add(total, _multiple(self._minus, ours[place]))
            if place in base:
                total = _add(total, _multiple(multiples, base[place]))
        return total


def _decode(encoded: bytes) -> Point:
    """Section 5.1.3 of the RFC."""
    if len(encoded) != KEY_BYTES:
        raise ValueError(f"a public key has {KEY_BYTES} bytes, not {len(encoded)}")
    number = int.from_bytes(encoded, "little")
    y, odd = number & Y_BITS, number >> 255
    if y >= P:
        raise ValueError("a public key is not written in the canonical way")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (not x and odd):
        raise ValueError("a public key is no point of the curve")
    if x & 1 != odd:
        x = P - x
    return x, y, 1, x * y % P


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def _negative(point: Point) -> Point:
    x, y, z, t = point
    return -x % P, y, z, -t % P


def _double(point: Point) -> Point:
    x, y, z, _ = point
    a, b = x * x % P, y * y % P
    h, g = a + b, a - b
    e, f = h - (x + y) * (x + y) % P, 2 * z * z % P + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def _add(point: Point, other: Addend) -> Point:
    x, y, z, t = point
    plus, minus, t2d, z2 = other
    a, b, c, d = (y - x) * minus % P, (y + x) * plus % P, t * t2d % P, z * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _addend(point: Point) -> Addend:
    x, y, z, t = point
    return (y + x) % P, (y - x) % P, 2 * D * t % P, 2 * z % P


def _odd_multiples(point: Point, window: int) -> tuple[Addend, ...]:
    """1, 3, 5, ... times a point: what a window of so many bits can ask for."""
    twice = _addend(_double(point))
    multiples = [point]
    while len(multiples) < 1 << (window - 2):
        multiples.append(_add(multiples[-1], twice))
    return tuple(map(_addend, multiples))


def _multiple(odd: tuple[Addend, ...], digit: int) -> Addend:
    if digit > 0:
        return odd[digit >> 1]
    plus, minus, t2d, z2 = odd[-digit >> 1]
    return minus, plus, -t2d, z2


def _signed_digits(number: int, window: int) -> dict[int, int]:
    """The places of the odd digits of a number, each below 2^(window - 1) in magnitude (wNAF)."""
    digits, place = {}, 0
    full, half = 1 << window, 1 << (window - 1)
    while number:
        zeros = (number & -number).bit_length() - 1
        number >>= zeros
        place += zeros
        digit = number & (full - 1)
        digit -= full if digit >= half else 0
        digits[place] = digit
        number -= digit
    return digits


@cache
def _base_multiples() -> tuple[Addend, ...]:
    y = 4 * pow(5, -1, P) % P
    return _odd_multiples(_decode(y.to_bytes(KEY_BYTES, "little")), BASE_WINDOW)
