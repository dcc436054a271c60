"""What has to be renewed in time, or everybody is refused: the list, and certificates of services.

Called when a program of the gateway starts, and daily while it runs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from aggregator.identity.authority import read_certificate
from aggregator.identity.crl import LIST_LIFE, REISSUED_AFTER
from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import issue_broker, issue_role, roles
from aggregator.identity.names import Role
from aggregator.identity.publishing import list_is_whole, publish, read_list, rules_are_current
from aggregator.identity.running import reload_brokers
from fedsparse.errors import ConfigError

RENEWED_AT: Final = 2 / 3  # of a certificate's life


def keep_fresh(fleet: Fleet, now: datetime) -> tuple[str, ...]:
    """Renew what is due, write the brokers' files where they are not what the store says.

    Running brokers are told.

    Returns:
        What was renewed, for the log.
    """
    with fleet.alone():
        done = [*_renew_certificates(fleet, now), *_publish_what_changed(fleet, now)]
        if done:
            reload_brokers(fleet)
    return tuple(done)


def renew_broker(fleet: Fleet, now: datetime) -> bool:
    """Give the brokers a new key and certificate at once, with the hosts of `fleet.toml`.

    Returns:
        Whether the fleet's broker is known to run; it has been told.
    """
    with fleet.alone():
        issue_broker(fleet, now)
        publish(fleet, now)
        return reload_brokers(fleet)


def add_role(fleet: Fleet, role: Role, now: datetime) -> Path:
    """Give a process of the gateway a key and a certificate, and tell the broker of it.

    Returns:
        The file with both.
    """
    with fleet.alone():
        path = issue_role(fleet, role, now)
        publish(fleet, now)
        reload_brokers(fleet)
    return path


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of a certificate's life are over, or it has not begun."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not begin <= now < begin + (end - begin) * RENEWED_AT


def _renew_certificates(fleet: Fleet, now: datetime) -> list[str]:
    done = []
    if _broker_is_due(fleet, now):
        issue_broker(fleet, now)
        done.append("the broker's certificate")
    for role in _roles_due(fleet, now):
        issue_role(fleet, role, now)
        done.append(f"the certificate of {role.text}")
    return done


def _publish_what_changed(fleet: Fleet, now: datetime) -> list[str]:
    done = []
    if not rules_are_current(fleet, now):
        done.append("the broker's rules")
    if not _list_is_young(fleet, now):
        done.append("the revocation list")
    if done:
        publish(fleet, now)
    return done


def _list_is_young(fleet: Fleet, now: datetime) -> bool:
    present = read_list(fleet.broker.crl)
    if present is None or present.next_update_utc is None or not list_is_whole(fleet, now):
        return False
    age = now - (present.next_update_utc - LIST_LIFE)
    return timedelta(0) <= age < REISSUED_AFTER


def _broker_is_due(fleet: Fleet, now: datetime) -> bool:
    wanted = set(fleet.config.certified_hosts)
    for folder in (fleet.broker, fleet.enrolment):
        present = _present(folder.identity)
        if present is None or is_due(present, now) or _hosts(present) != wanted:
            return True
    return False


def _roles_due(fleet: Fleet, now: datetime) -> list[Role]:
    with fleet.store.reading() as db:
        known = roles(db, now)
    files = ((role, _present(fleet.role_file(role))) for role in known)
    return [role for role, present in files if present is not None and is_due(present, now)]


def _present(path: Path) -> x509.Certificate | None:
    try:
        return read_certificate(path)
    except ConfigError:
        return None


def _hosts(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(str(one) for one in addresses)}
