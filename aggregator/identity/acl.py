"""Who may read and write which topics: the access files of the brokers (docs/wire.md, section 1).

Nobody has anything but by a line here. `%u` is the common name of the client's certificate, `%c`
a stranger's client id. The broker looks at every `deny` first; it applies the patterns to roles
too, whose own trees are denied for that reason.

Source: mosquitto.conf(5), acl_file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aggregator.identity.names import Duty, Role
from fedsparse.wire.topics import ROOT

CLAIMS: Final = f"{ROOT}/prov"
HEAD: Final = "# Written by fedsparse; changes made by hand are lost.\n"


def fleet_acl(site: str, roles: Iterable[Role], revoked: Iterable[str]) -> str:
    """The access file of the fleet's broker.

    Args:
        site: the fleet's name.
        roles: the gateway's processes that have a certificate that lasts.
        revoked: devices that have none any more; they get nothing, whatever they connect with.
    """
    base = f"{ROOT}/{site}"
    blocks = [_block(name, ("deny #",)) for name in sorted(revoked)]
    all_roles = {*roles, Role(duty=Duty.OPERATOR)}
    for role in sorted(all_roles, key=lambda one: one.common_name):
        name = role.common_name
        own = (f"deny {base}/up/{name}/#", f"deny {base}/down/{name}/#")
        blocks.append(_block(name, (*own, *_granted(role, base))))
    patterns = (
        f"pattern write {base}/up/%u/#\npattern read {base}/down/%u/#\npattern read {base}/all/#\n"
    )
    return "\n".join((HEAD, *blocks, patterns))


def strangers_acl() -> str:
    """The access file of the enrolment broker, for whoever has no certificate yet."""
    return (
        f"{HEAD}\n"
        f"topic read {CLAIMS}/ca\n"
        f"pattern write {CLAIMS}/req/%c\n"
        f"pattern read {CLAIMS}/res/%c\n"
    )


def enrolment_service_acl() -> str:
    """The access file of the enrolment broker, for the identity service."""
    lines = (f"write {CLAIMS}/ca", f"read {CLAIMS}/req/#", f"write {CLAIMS}/res/#")
    return f"{HEAD}\n{_block(Role(duty=Duty.IDENTITY).common_name, lines)}"


def _granted(role: Role, base: str) -> tuple[str, ...]:
    if role.duty is Duty.GATEWAY:
        return (f"read {base}/up/#", f"write {base}/down/#", f"write {base}/all/#")
    if role.duty is Duty.IDENTITY:
        return (f"read {base}/up/+/renew", f"write {base}/down/+/renew")
    if role.duty is Duty.OPERATOR:  # of a device that it has thrown out
        return (f"write {base}/up/+/status",)
    return (f"read {base}/up/+/status",)


def _block(name: str, lines: tuple[str, ...]) -> str:
    return "".join((f"user {name}\n", *(f"topic {line}\n" for line in lines)))
