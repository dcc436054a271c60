"""Modules that a process of the device does without: each costs megabytes of resident memory."""

from __future__ import annotations

import sys
from typing import Final

# Maps OpenSSL's libcrypto (4 MB); Python's own SHA-256 is fast enough for messages.
OPENSSL_HASHES: Final = "_hashlib"
# paho imports it for TLS, which a plain connection does not use (5 MB).
TLS: Final = "ssl"


def leave_out(*modules: str) -> None:
    """Make later imports of `modules` fail, which their importers are prepared for.

    For the start of a process, before anything else is imported; a module that is there stays.
    """
    for module in modules:
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None: the documented way
