from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.identity.authority import Authority
from aggregator.identity.keys import new_service_key
from aggregator.identity.names import Duty, Role
from fedsparse.errors import ConfigError, RemoteProtocolError

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "fleet", "plant", NOW)


def name_of(certificate: x509.Certificate) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def uses_of(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert extension.critical
    return list(extension.value)


def request_for(
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, name: str = "whoever"
) -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    hash_name = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hash_name)
    )


def test_an_authority_that_is_read_again_is_the_same(tmp_path: Path) -> None:
    made = Authority.create(tmp_path, "plant", NOW)
    read = Authority.open(tmp_path)
    assert read.certificate == made.certificate
    assert read.gateway_public == made.gateway_public
    assert read.fingerprint == hashlib.sha256(made.certificate_der).hexdigest()


def test_no_key_can_be_read_by_others(tmp_path: Path) -> None:
    Authority.create(tmp_path / "fleet", "plant", NOW)
    folder = tmp_path / "fleet" / "authority"
    assert folder.stat().st_mode & 0o777 == 0o700
    keys = sorted(folder.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "gateway.key"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


@pytest.mark.parametrize("name", ["ca.key", "gateway.key"])
def test_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, name: str
) -> None:
    Authority.create(tmp_path, "plant", NOW)
    (tmp_path / "authority" / name).chmod(0o640)
    with pytest.raises(ConfigError, match=rf"chmod 600 .*{name}"):
        Authority.open(tmp_path)


@pytest.mark.parametrize("damaged", [b"", b"no key", "other"])
def test_a_damaged_or_foreign_file_is_refused_and_named(
    tmp_path: Path, damaged: bytes | str
) -> None:
    Authority.create(tmp_path / "a", "plant", NOW)
    Authority.create(tmp_path / "b", "plant", NOW)
    for name in ("ca.key", "ca.crt"):
        path = tmp_path / "a" / "authority" / name
        kept = path.read_bytes()
        other = (tmp_path / "b" / "authority" / name).read_bytes()
        path.write_bytes(other if damaged == "other" else bytes(damaged))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"a/authority"):
            Authority.open(tmp_path / "a")
        path.write_bytes(kept)
    Authority.open(tmp_path / "a")


def test_a_fleet_that_is_none_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fedsparse identity init"):
        Authority.open(tmp_path)


def test_an_authority_is_never_made_over_another(tmp_path: Path) -> None:
    made = Authority.create(tmp_path, "plant", NOW)
    with pytest.raises(ConfigError, match="there is an authority already"):
        Authority.create(tmp_path, "plant", NOW)
    assert Authority.open(tmp_path).certificate == made.certificate


def test_two_authorities_of_one_site_have_different_names(tmp_path: Path) -> None:
    made = [Authority.create(tmp_path / which, "plant", NOW) for which in ("a", "b")]
    assert made[0].certificate.subject != made[1].certificate.subject


def test_a_device_gets_its_name_its_key_and_the_right_to_be_a_client(authority: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    certificate = authority.issue_device("cam-01", key.public_key(), NOW)
    certificate.verify_directly_issued_by(authority.certificate)
    assert name_of(certificate) == "cam-01"
    assert certificate.public_key() == key.public_key()
    assert uses_of(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.critical) == (False, True)
    assert certificate.not_valid_before_utc == NOW - DAY
    assert certificate.not_valid_after_utc == NOW + 90 * DAY


def test_of_a_request_only_the_key_counts(authority: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    certificate = authority.issue_device("cam-01", request_for(key, "_gateway.job"), NOW)
    assert name_of(certificate) == "cam-01"
    assert certificate.public_key() == key.public_key()
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca is False


def test_a_request_that_its_key_did_not_sign_is_refused(authority: Authority) -> None:
    request = request_for(ed25519.Ed25519PrivateKey.generate())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="not signed by the key"):
        authority.issue_device("cam-01", x509.load_der_x509_csr(bytes(der)), NOW)


def test_a_request_with_a_key_of_another_kind_is_refused(authority: Authority) -> None:
    with pytest.raises(RemoteProtocolError, match="must be Ed25519"):
        authority.issue_device("cam-01", request_for(new_service_key()), NOW)
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is what is tested)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    with pytest.raises(RemoteProtocolError, match="must be Ed25519"):
        authority.issue_device("cam-01", request.sign(weak, SHA256()), NOW)


@pytest.mark.parametrize(
    "name", ["", "_gateway.job", "a/b", "a+b", "#", "..", "é", "a" * 65, "cam 1", "cam\n1"]
)
def test_no_certificate_names_what_no_device_can_be_named(authority: Authority, name: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(ConfigError, match="a device's name is"):
        authority.issue_device(name, key, NOW)


def test_the_longest_name_of_a_device_fits_into_a_certificate(authority: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    assert name_of(authority.issue_device("a" * 64, key, NOW)) == "a" * 64


def test_a_role_has_a_name_that_no_device_can_have(authority: Authority) -> None:
    role = Role(duty=Duty.GATEWAY, job="digits")
    certificate = authority.issue_role(role, new_service_key().public_key(), NOW)
    assert name_of(certificate) == "_gateway.digits"
    assert uses_of(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_broker_has_all_its_names_and_may_only_be_a_broker(authority: Authority) -> None:
    hosts = ("gateway.local", "192.168.1.5", "fd00::1")
    certificate = authority.issue_broker(hosts, new_service_key().public_key(), NOW)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.local"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == [
        "192.168.1.5",
        "fd00::1",
    ]
    assert uses_of(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_nothing_outlives_the_authority(authority: Authority) -> None:
    late = authority.certificate.not_valid_after_utc - DAY
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    certificate = authority.issue_device("cam-01", key, late)
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_keys_do_not_stand_where_objects_are_printed(authority: Authority, tmp_path: Path) -> None:
    key = load_pem_private_key((tmp_path / "fleet/authority/ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert "_key" not in repr(authority)
    assert f"{key.private_numbers().private_value:x}" not in repr(authority)
