"""Certificates for tests: an authority made on the spot, and what it signs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
AnyKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path
    serial: int


class Authority:
    """A certificate authority in a folder of its own; `ca` is its certificate's file."""

    def __init__(
        self, folder: Path, *, name: str = "the fleet", begins: datetime | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        begins = begins or now() - 30 * DAY
        certificate = (
            _builder(self._name, begins, begins + 3650 * DAY)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write(self.ca, certificate)

    def sign(
        self,
        name: str,
        *hosts: str,
        begins: datetime | None = None,
        ends: datetime | None = None,
        key: AnyKey | None = None,
    ) -> Pair:
        """A certificate of the name; with `hosts` one of a server."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_name(name), begins or now() - DAY, ends or now() + DAY)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(one) for one in hosts])
            builder = builder.add_extension(names, critical=False)
        return self._keep(builder.sign(self._key, hashes.SHA256()), key)

    def self_signed(self, name: str, *hosts: str) -> Pair:
        """What anybody can make."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), now() - DAY, now() + DAY).issuer_name(_name(name))
        if hosts:
            names = x509.SubjectAlternativeName([_host(one) for one in hosts])
            builder = builder.add_extension(names, critical=False)
        return self._keep(builder.public_key(key.public_key()).sign(key, hashes.SHA256()), key)

    def revoke(self, *pairs: Pair) -> Path:
        """A list of revoked certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now() - DAY).next_update(now() + DAY)
        for pair in pairs:
            one = x509.RevokedCertificateBuilder().serial_number(pair.serial)
            builder = builder.add_revoked_certificate(one.revocation_date(now() - DAY).build())
        path = self.folder / "crl.pem"
        signed = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return path

    def _keep(self, certificate: x509.Certificate, key: AnyKey) -> Pair:
        path = self.folder / f"{certificate.serial_number:x}.pem"
        _write(path, certificate)
        secret = path.with_suffix(".key")
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Pair(certificate=path, key=secret, serial=certificate.serial_number)


def now() -> datetime:
    return datetime.now(timezone.utc)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: x509.Name, begins: datetime, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
