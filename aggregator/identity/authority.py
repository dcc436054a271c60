"""A fleet's own certificate authority, and the key with which the gateway signs.

authority/ca.key        signs certificates and revocation lists (ECDSA P-256), 0600
authority/ca.crt        what devices and broker trust; its SHA-256 is the fleet's fingerprint
authority/gateway.key   signs offers, tasks, receipts and models (Ed25519), 0600

A certificate says what it is good for: a device's cannot be used as the broker's, nor the broker's
as a device's, and none but the authority's own can sign another. All begin a day before they
are issued, so that a clock which is a little behind does not refuse them.

Source: RFC 5280.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.identity.keys import (
    ServiceKey,
    SigningKey,
    key_pem,
    new_service_key,
    read_service_key,
    read_signing_key,
)
from aggregator.identity.names import Role, device_name
from fedsparse.durable import write_durably, write_secret
from fedsparse.errors import ConfigError, RemoteProtocolError

FOLDER: Final = "authority"
BACKDATED: Final = timedelta(days=1)
AUTHORITY_LIFE: Final = timedelta(days=3650)
DEVICE_LIFE: Final = timedelta(days=90)
SERVICE_LIFE: Final = timedelta(days=365)  # of the broker and of roles

DevicePublic: TypeAlias = ed25519.Ed25519PublicKey
ServicePublic: TypeAlias = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The authority of one fleet, with its private keys.

    Attributes:
        certificate: its own, self-signed.
        gateway_key: the gateway's signing key; devices get its public half when they enrol.
    """

    certificate: x509.Certificate
    gateway_key: SigningKey = field(repr=False)
    _key: ServiceKey = field(repr=False)

    @classmethod
    def create(cls, fleet: Path, site: str, now: datetime) -> Authority:
        """Make the authority of a new fleet; its files are on the disk when this returns.

        Raises:
            ConfigError: the folder has one, which would be lost with every certificate it issued.
        """
        folder = fleet / FOLDER
        if (folder / "ca.crt").exists():
            raise ConfigError(f"{folder}: there is an authority already; choose another folder")
        key, gateway_key = new_service_key(), ed25519.Ed25519PrivateKey.generate()
        certificate = _self_signed(key, site, now)
        write_secret(folder / "ca.key", key_pem(key))
        write_secret(folder / "gateway.key", key_pem(gateway_key))
        write_durably(folder / "ca.crt", certificate.public_bytes(Encoding.PEM))
        return cls(certificate=certificate, gateway_key=gateway_key, _key=key)

    @classmethod
    def open(cls, fleet: Path) -> Authority:
        """Read the authority of a fleet.

        Raises:
            ConfigError: a file is missing, damaged, of another fleet, or open to others.
        """
        folder = fleet / FOLDER
        key = read_service_key(folder / "ca.key")
        gateway_key = read_signing_key(folder / "gateway.key")
        certificate = read_certificate(folder / "ca.crt")
        if certificate.public_key() != key.public_key():
            raise ConfigError(f"{folder}: ca.crt and ca.key do not belong together")
        return cls(certificate=certificate, gateway_key=gateway_key, _key=key)

    @property
    def certificate_pem(self) -> bytes:
        """What devices and the broker trust, as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def certificate_der(self) -> bytes:
        """What devices and the broker trust, as DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate (DER): 64 lower-case hexadecimal digits."""
        return hashlib.sha256(self.certificate_der).hexdigest()

    @property
    def gateway_public(self) -> bytes:
        """The public half of the gateway's signing key: 32 bytes."""
        return self.gateway_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def issue_device(
        self,
        device: str,
        key: DevicePublic | x509.CertificateSigningRequest,
        now: datetime,
        *,
        life: timedelta = DEVICE_LIFE,
    ) -> x509.Certificate:
        """Sign that a key is a device's.

        Args:
            device: its name.
            key: its Ed25519 key, or a request that holds it. Of a request only the key counts,
                and that its owner signed it: name and extensions are what we say they are.
            now: when it is issued.
            life: from now on.

        Raises:
            ConfigError: no device can be named so.
            RemoteProtocolError: the request is not signed by its key, or the key is not Ed25519.
        """
        public = _requested_key(key) if isinstance(key, x509.CertificateSigningRequest) else key
        builder = self._builder(device_name(device), public, now, life)
        return self._signed(_for_use(builder, ExtendedKeyUsageOID.CLIENT_AUTH))

    def issue_role(
        self, role: Role, key: ServicePublic, now: datetime, *, life: timedelta = SERVICE_LIFE
    ) -> x509.Certificate:
        """Sign that a key belongs to a process of the gateway."""
        builder = self._builder(role.common_name, key, now, life)
        return self._signed(_for_use(builder, ExtendedKeyUsageOID.CLIENT_AUTH))

    def issue_broker(
        self, hosts: Sequence[str], key: ServicePublic, now: datetime
    ) -> x509.Certificate:
        """Sign that a key is the broker's, under all these names and addresses."""
        builder = self._builder("broker", key, now, SERVICE_LIFE)
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
        return self._signed(_for_use(builder, ExtendedKeyUsageOID.SERVER_AUTH))

    def sign_list(
        self, builder: x509.CertificateRevocationListBuilder
    ) -> x509.CertificateRevocationList:
        """Finish a revocation list: whose it is, and the signature."""
        builder = builder.issuer_name(self.certificate.subject).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        return builder.sign(self._key, SHA256())

    def _builder(
        self, name: str, key: DevicePublic | ServicePublic, now: datetime, life: timedelta
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_common_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(min(now + life, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, SHA256())


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no certificate: {error}") from error


def _self_signed(key: ServiceKey, site: str, now: datetime) -> x509.Certificate:
    # A number in the name: the authority of a fleet that was made anew is not taken for the old.
    name = _common_name(f"fedsparse {site[:40]} {x509.random_serial_number() >> 128:08x}")
    usage = _usage(signs_certificates=True)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, SHA256())
    )


def _requested_key(request: x509.CertificateSigningRequest) -> DevicePublic:
    try:
        public = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RemoteProtocolError(f"the request's key is of no known kind: {error}") from error
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise RemoteProtocolError("a device's key must be Ed25519")
    if not signed:
        raise RemoteProtocolError("the request is not signed by the key that it holds")
    return public


def _for_use(
    builder: x509.CertificateBuilder, use: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    return builder.add_extension(_usage(), critical=True).add_extension(
        x509.ExtendedKeyUsage([use]), critical=True
    )


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
