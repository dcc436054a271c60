"""The tables. Bytes (models, updates, masks) are in files; here is what is known about them.

Times are milliseconds since 1970, by this host's calendar. Columns that are NULL say "not known"
or "not yet". What changes here needs a further file in `migrations/versions`, and `HEAD`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

HEAD: Final = "0001"  # the newest revision, whose tables these are

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _device() -> Column[str]:
    return Column("device", String(64), nullable=False)


def _job(*, primary_key: bool = False) -> Column[int]:
    return Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=primary_key, nullable=False)


# Who is in the fleet

devices: Final = Table(
    "devices",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("board", String(256), nullable=False),
    Column("state", String(16), nullable=False),  # devices.State
    Column("added_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger),
    Column("max_examples", BigInteger),  # its weight in a mean is capped by it; NULL: as the job
    Column("public_key", LargeBinary),  # of its signatures
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    _device(),
    Column("key", LargeBinary, nullable=False),  # derived from the secret, which is not kept
    Column("made_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("wrong_proofs", Integer, nullable=False),
    Column("used_ms", BigInteger),
    Column("csr_digest", LargeBinary),  # of the request that used it
    Column("serial", String(40)),  # of the certificate that it was given
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hexadecimal
    _device(),  # its common name; also of those that are no devices
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("public_key", LargeBinary, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("reason", String(64)),
    Index("ix_certificates_device", "device"),
)

crls: Final = Table(
    "crls",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("this_update_ms", BigInteger, nullable=False),
    Column("next_update_ms", BigInteger, nullable=False),
)

# Jobs and their rounds

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", LargeBinary, nullable=False, unique=True),  # 16 bytes; a new one a folder
    Column("name", String(64), nullable=False),
    Column("method", String(32), nullable=False),
    Column("plan_digest", String(64), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
)

rounds: Final = Table(
    "rounds",
    metadata,
    _job(primary_key=True),
    Column("round_id", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("repeats", Integer, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("closes_ms", BigInteger),  # its deadline; NULL before it has a cohort
    Column("closed_ms", BigInteger),
)

assignments: Final = Table(
    "assignments",
    metadata,
    _job(primary_key=True),
    Column("round_id", Integer, primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("level", Float, nullable=False),
    Column("num_examples", BigInteger, nullable=False),  # that it said it has
)

updates: Final = Table(
    "updates",
    metadata,
    _job(primary_key=True),
    Column("round_id", Integer, primary_key=True),  # into which it was folded
    Column("device", String(64), primary_key=True),
    Column("origin_round", Integer, primary_key=True),  # for which it was trained
    Column("level", Float, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("num_examples", BigInteger, nullable=False),
)

# Misbehaviour

strikes: Final = Table(
    "strikes",
    metadata,
    Column("id", Integer, primary_key=True),
    _device(),
    _job(),
    Column("round_id", Integer, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_strikes_device", "device"),
)

quarantines: Final = Table(
    "quarantines",
    metadata,
    Column("id", Integer, primary_key=True),
    _device(),
    Column("since_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lifted_ms", BigInteger),
    Index("ix_quarantines_device", "device"),
)
