"""Where the broker is: the `[broker]` table of `job.toml` and `client.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """How to reach the broker.

    Attributes:
        host, port: its address.
        username, password_file: credentials, where the broker asks for them.
        keepalive_s: seconds between signs of life.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password_file: Path | None = None
    keepalive_s: int = 60

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must not be empty")
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        if not 5 <= self.keepalive_s <= 3600:
            raise ValueError(f"keepalive_s must be 5 to 3600, got {self.keepalive_s}")
