"""Where the broker is: the `[broker]` table of `job.toml` and `client.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROTOCOLS: Final = ("auto", "3.1.1", "5")
LEAST_PACKET_BYTES: Final = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How to know the broker, and to be known by it: the `[broker.tls]` table.

    Attributes:
        ca: the certificate of the fleet's authority (PEM): no other is trusted.
        certificate, key: our own (PEM), where the broker asks for one; the key's file must be
            readable by its owner alone.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """How to reach the broker.

    Attributes:
        host, port: its address; with TLS, the port is 8883 as a rule.
        username, password_file: credentials, where the broker asks for them.
        keepalive_s: seconds between signs of life.
        protocol: MQTT `5`, `3.1.1`, or `auto`: 5 where the broker speaks it.
        max_packet_bytes: the largest packet that the broker takes, where it does not say so itself:
            with MQTT 3.1.1 none does. The smaller one of this and what it says counts.
        tls: how the connection is secured; None where it is not.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password_file: Path | None = None
    keepalive_s: int = 60
    protocol: str = "auto"
    max_packet_bytes: int | None = None
    tls: TlsConfig | None = None

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must not be empty")
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        if not 5 <= self.keepalive_s <= 3600:
            raise ValueError(f"keepalive_s must be 5 to 3600, got {self.keepalive_s}")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {PROTOCOLS}, got {self.protocol!r}")
        if self.max_packet_bytes is not None and self.max_packet_bytes < LEAST_PACKET_BYTES:
            raise ValueError(
                f"max_packet_bytes must be {LEAST_PACKET_BYTES} at least, "
                f"got {self.max_packet_bytes}"
            )

    @property
    def address(self) -> str:
        """For messages: `host:port`."""
        return f"{self.host}:{self.port}"
