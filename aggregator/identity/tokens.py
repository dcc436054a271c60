"""Codes that let one device in, once, for a while: made here, and used up here.

Of a code the store keeps its public part and the key that is derived from the whole; whoever reads
the store before a code expires can enrol in its device's name, and cannot learn the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from aggregator.identity.names import device_name
from aggregator.store import certificates, tokens
from aggregator.store.tokens import Token
from fedsparse.errors import ConfigError
from fedsparse.wire.enrolment import Claim, Enrol
from fedsparse.wire.enrolment_code import Code, derive_key, new_code

LIFE: Final = timedelta(hours=24)
LONGEST_LIFE: Final = timedelta(days=30)
WRONG_PROOFS: Final = 5  # after which a code is worth nothing
KEPT_MS: Final = int(timedelta(days=90).total_seconds() * 1000)  # expired ones, for the record


def make_code(
    db: Connection, *, site: str, device: str, now_ms: int, life: timedelta = LIFE
) -> Code:
    """Let a device in: whoever has the code and says that it is this device, gets its certificate.

    Codes that this device was given before and has not used are void.

    Raises:
        ConfigError: it has a certificate already, or no device is named so.
    """
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise ConfigError(f"a code is good for {LONGEST_LIFE.days * 24} hours at most")
    if certificates.live(db, now_ms, device_name(device)):
        raise ConfigError(
            f"{device} has a certificate; if it is to get another one (its disk was lost, or it is "
            f"another board now), take the first from it: `fedsparse identity revoke {device}`"
        )
    tokens.remove_expired(db, now_ms - KEPT_MS)
    for one in tokens.everyone(db):
        if one.device == device and one.used_ms is None:
            tokens.remove(db, one.id)
    code = new_code(id_taken=[one.id for one in tokens.everyone(db)])
    token = Token(
        id=code.code_id,
        device=device,
        key=derive_key(code, site=site, device=device),
        made_ms=now_ms,
        expires_ms=now_ms + int(life.total_seconds() * 1000),
    )
    tokens.add(db, token)
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why somebody does not get a certificate: for the operator.

    Attributes:
        reason: in words.
        guess: whether a proof was wrong that could have been right.
    """

    reason: str
    guess: bool = False


def check_code(
    db: Connection, claim: Claim, request: Enrol, csr_digest: bytes, now_ms: int
) -> Token | Refusal:
    """The token of the code that proves a request; a wrong proof is counted.

    A used one is good for one thing: the same request once more, whose answer was lost.
    """
    token = tokens.find(db, request.code_id)
    if token is None:
        return Refusal(reason="there is no such code, or no longer")
    if token.wrong_proofs >= WRONG_PROOFS:
        return Refusal(reason=f"the code is burnt, by {WRONG_PROOFS} wrong proofs")
    if not claim.is_proved_by(token.key):
        count = tokens.count_wrong_proof(db, token.id)
        whose = "" if token.device == request.device else f", or the code of {token.device}"
        return Refusal(reason=f"a wrong proof{whose}: {count} of {WRONG_PROOFS}", guess=True)
    if token.used_ms is not None and token.csr_digest != csr_digest:
        return Refusal(reason="the code was used before, for another key")
    if token.used_ms is None and token.expires_ms <= now_ms:
        return Refusal(reason="the code has expired")
    return token
