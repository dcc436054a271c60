"""A device's own key and certificates; only processes that end import this."""

from __future__ import annotations

try:
    from cryptography import x509
except ModuleNotFoundError as error:
    from fedsparse.errors import ConfigError

    raise ConfigError(
        'this command needs the extra "identity": pip install "fedsparse[identity]"; on a board '
        "without a wheel for it: sudo apt install python3-cryptography"
    ) from error
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from edge_client.identity.folder import IdentityFolder
from fedsparse.errors import ConfigError, RemoteProtocolError
from fedsparse.wire.enrolment_code import Fingerprint

Certificate = x509.Certificate


class DeviceKey:
    """The private key of a device: for TLS, and for what it signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, pem: bytes, where: object) -> DeviceKey:
        """The key of a PEM file, which may have a certificate beside it.

        Raises:
            ConfigError: it has none, or one of another kind.
        """
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{where}: no private key: {error}; enrol the device") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{where}: a device's key is Ed25519; enrol the device")
        return cls(key)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others verify with."""
        return self._key.public_key().public_bytes_raw()

    @property
    def pem(self) -> bytes:
        """PKCS 8, not encrypted: for a file that nobody else may read."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of `data`."""
        return self._key.sign(data)

    def request(self, device: str) -> bytes:
        """A certificate request (DER); the same bytes every time."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        return builder.sign(self._key, None).public_bytes(Encoding.DER)


def pending_key(folder: IdentityFolder) -> DeviceKey:
    """The key that waits for its certificate; a new one where none does. It is on the disk then.

    Raises:
        ConfigError: the file is open to others, or damaged.
    """
    if folder.pending.exists():
        return DeviceKey.read(folder.read_secret(folder.pending), folder.pending)
    key = DeviceKey(Ed25519PrivateKey.generate())
    folder.keep_pending(key.pem)
    return key


def read_certificate(der: bytes) -> Certificate:
    """Read what the gateway sent.

    Raises:
        RemoteProtocolError: it is no certificate.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise RemoteProtocolError(f"no certificate: {error}") from error


def read_pem(pem: bytes, where: object) -> Certificate:
    """The first certificate of a file.

    Raises:
        ConfigError: it has none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigError(f"{where}: no certificate: {error}; enrol the device") from error


def check_issued(certificate: Certificate, authority: Certificate, key: bytes, device: str) -> None:
    """Whether a certificate is what was asked for: for this key and name, by this authority.

    Raises:
        RemoteProtocolError: it is another.
    """
    public = certificate.public_key()
    if not isinstance(public, Ed25519PublicKey) or public.public_bytes_raw() != key:
        raise RemoteProtocolError("the certificate that came is for another key")
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if [name.value for name in names] != [device]:
        raise RemoteProtocolError("the certificate that came is for another name")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RemoteProtocolError(f"the certificate is of another authority: {error}") from error


def fingerprint_of(certificate: Certificate) -> Fingerprint:
    """What a certificate is known by."""
    return Fingerprint(text=certificate.fingerprint(SHA256()).hex())


def pem_of(certificate: Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)
