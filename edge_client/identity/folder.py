"""Where a device keeps its identity: beside the certificate that `client.toml` names.

device.pem     certificate and private key in one file, so that both change at once; 0600
ca.pem         the fleet's authority
gateway.pub    with what the gateway signs: 32 bytes a line, in hexadecimal
fleet.json     where the fleet is, and a moment that has passed
pending.pem    a key whose certificate has not come yet; 0600

Names and folder of the first two are those in `[broker.tls]`. Imports no cryptography.
"""

from __future__ import annotations

import json
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge_client.config import ClientConfig
from edge_client.kept import kept_document
from fedsparse.durable import sync_folder, write_durably, write_secret
from fedsparse.errors import ConfigError, DataError

VERSION: Final = 1
OTHERS: Final = 0o077
WANTED: Final = (
    "add this to client.toml:\n"
    "[broker.tls]\n"
    'ca = "identity/ca.pem"\n'
    'certificate = "identity/device.pem"\n'
    'key = "identity/device.pem"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where the fleet of a device is.

    Attributes:
        host, port: of the broker, as the gateway says.
        enrolment_host, enrolment_port: where the device got its certificate, and renews it.
        now_ms: a moment that has passed, for a clock that may be behind; ms since 1970, UTC.
    """

    host: str
    port: int
    enrolment_host: str
    enrolment_port: int
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFolder:
    """The files of a device's identity.

    Attributes:
        device: certificate and key.
        authority: the fleet's authority.
    """

    device: Path
    authority: Path

    @classmethod
    def of(cls, config: ClientConfig) -> IdentityFolder:
        """Those that `client.toml` names.

        Raises:
            ConfigError: it does not, or names two files where one must hold certificate and key.
        """
        tls = config.broker.tls
        if tls is None or tls.certificate is None:
            raise ConfigError(f"client.toml does not say where the identity is to be: {WANTED}")
        if tls.certificate != tls.key:
            raise ConfigError(
                "[broker.tls] certificate and key must be one file, which is replaced as a whole "
                f"when the certificate is renewed: {WANTED}"
            )
        return cls(device=tls.certificate, authority=tls.ca)

    @property
    def pending(self) -> Path:
        """A key that waits for its certificate."""
        return self.device.with_name("pending.pem")

    @property
    def gateway(self) -> Path:
        """With what the gateway signs."""
        return self.device.with_name("gateway.pub")

    @property
    def home(self) -> Path:
        """Where the fleet is."""
        return self.device.with_name("fleet.json")

    def keep_pending(self, key_pem: bytes) -> None:
        """Keep a key until its certificate has come: after a crash the same one is asked for."""
        write_secret(self.pending, key_pem)

    def read_secret(self, path: Path) -> bytes:
        """A file that nobody else may read.

        Raises:
            ConfigError: others may, or it cannot be read.
        """
        try:
            if stat.S_IMODE(path.stat().st_mode) & OTHERS:
                raise ConfigError(f"{path}: others may read this key: chmod 600 {path}")
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error

    def settle(
        self,
        *,
        device_pem: bytes,
        authority_pem: bytes,
        gateway_keys: tuple[bytes, ...],
        home: Home,
    ) -> None:
        """Keep an identity; the last file that is written is the one that makes it one."""
        write_durably(self.authority, authority_pem)
        keys = "".join(f"{key.hex()}\n" for key in gateway_keys)
        write_durably(self.gateway, keys.encode())
        text = json.dumps({"version": VERSION, **asdict(home)}, indent=1)
        write_durably(self.home, text.encode())
        write_secret(self.device, device_pem)
        self.pending.unlink(missing_ok=True)
        sync_folder(self.device.parent)

    def read_home(self) -> Home:
        """Where the fleet is.

        Raises:
            ConfigError: it is not known.
        """
        try:
            with kept_document(self.home.read_bytes(), "not a fleet's address", VERSION) as kept:
                return Home(**{name: kept[name] for name in Home.__slots__})
        except (OSError, DataError) as error:
            raise ConfigError(f"{self.home}: {error}; enrol the device") from error

    def gateway_keys(self) -> tuple[bytes, ...]:
        """With what the gateway signs.

        Raises:
            ConfigError: it is not known.
        """
        try:
            lines = self.gateway.read_text(encoding="ascii").split()
            keys = tuple(bytes.fromhex(line) for line in lines)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.gateway}: {error}; enrol the device") from error
        if not keys or {len(key) for key in keys} != {32}:
            raise ConfigError(f"{self.gateway}: not the keys of a gateway; enrol the device")
        return keys
