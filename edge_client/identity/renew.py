"""Getting the next certificate in time, with a new key; the old one vouches for it.

The request goes to the enrolment broker, where the client id is drawn for the request alone: on the
fleet's broker it would be the device's, and its running agent would be thrown off.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from edge_client.config import ClientConfig
from edge_client.identity.enrol import Settled, check_renewed, context_for, settle
from edge_client.identity.errand import Desk, RefusedError, Say, ask, look
from edge_client.identity.folder import IdentityFolder
from edge_client.identity.keys import Certificate, DeviceKey, pending_key, read_pem
from fedsparse.wire.enrolment import Claim, Renew, encode_signed
from fedsparse.wire.signing import Trusted

RENEWED_AT: Final = 2 / 3  # of a certificate's life


def due(certificate: Certificate) -> datetime:
    """When a certificate is to be renewed."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * RENEWED_AT


def present(folder: IdentityFolder) -> tuple[Certificate, DeviceKey]:
    """The identity that a device has.

    Raises:
        ConfigError: it has none, or it is damaged or open to others.
    """
    pem = folder.read_secret(folder.device)
    return read_pem(pem, folder.device), DeviceKey.read(pem, folder.device)


def renew(config: ClientConfig, *, say: Say) -> Settled:
    """Have a new key certified, and take it; until that is done the old identity stays.

    Raises:
        ConfigError: the device has no identity.
        TransportError: nobody is there, it is not the fleet's gateway, or it says no.
    """
    folder = IdentityFolder.of(config)
    home, (_, old) = folder.read_home(), present(folder)
    authority = read_pem(folder.authority.read_bytes(), folder.authority)
    gateway = Trusted(folder.gateway_keys())
    new = pending_key(folder)
    desk = Desk(host=home.enrolment_host, port=home.enrolment_port)
    context = context_for(authority, look(desk))
    message = Renew(site=config.site, device=config.device, csr=new.request(config.device))

    def check(claim: Claim) -> None:
        check_renewed(claim, gateway, authority, new, config.device)

    say(f"asking {desk} for a certificate that lasts longer")
    try:
        answer = ask(
            desk, context, lambda topic: encode_signed(topic, message, old), check, say=say
        )
    except RefusedError as error:
        raise RefusedError(
            "the gateway refuses: the certificate is revoked or has expired; its log says which. "
            f"To let the device in again: `fedsparse identity token {config.device}` there, then "
            f"remove {folder.device} here and enrol"
        ) from error
    return settle(folder, new, answer, desk)
