"""What a process of the device does without, for the sake of its resident memory."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Final

# Maps OpenSSL's libcrypto (4 MB); Python's own SHA-256 is fast enough for messages.
OPENSSL_HASHES: Final = "_hashlib"
# paho imports it for TLS, which a plain connection does not use (5 MB).
TLS: Final = "ssl"
# paho imports both for proxies, of which it finds none without the first (3 MB, for the second).
PROXIES: Final = ("socks", "urllib.request")
# zipfile and shutil import them where they are; no file of ours is packed so (0.4 MB).
PACKERS: Final = ("bz2", "lzma")
M_ARENA_MAX: Final = -8  # of mallopt(3)


def leave_out(*modules: str) -> None:
    """Make later imports of `modules` fail, which their importers are prepared for.

    For the start of a process, before anything else is imported; a module that is there stays.
    """
    for module in modules:
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None: the documented way


def leave_out_proxies() -> None:
    """Make paho do without its look for proxies; what it would look with is an empty module."""
    socks, requests = PROXIES
    leave_out(socks)
    sys.modules.setdefault(requests, ModuleType(requests))


def share_one_arena() -> None:
    """Let all threads take memory from one place: glibc gives each one of its own (0.4 MB).

    For a process whose threads take turns. A C library without this setting is left as it is.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)
