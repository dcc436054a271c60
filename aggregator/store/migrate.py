"""Bringing a store's tables up to date, whatever version of this program made them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from aggregator.store.schema import HEAD
from fedsparse.errors import StoreError

log = logging.getLogger("aggregator.store")

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LOCK: Final = 0x66656473  # of PostgreSQL's advisory locks, ours


def migrate(db: Connection) -> None:
    """Upgrade the tables to `HEAD`, in the transaction of `db`, which no other process disturbs.

    Raises:
        StoreError: a newer version of this program has written the store.
    """
    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    found = revision(db)
    if found == HEAD:
        return
    known = _known_revisions()
    if found and found not in known:
        raise StoreError(
            f"the store is of revision {found}, which this version does not know (it knows "
            f"{HEAD}): a newer fedsparse has written it; install that version, or restore a "
            "backup of before"
        )
    log.info("store_upgrade=%s from=%s", HEAD, found or "nothing")
    _upgrade(db)


def revision(db: Connection) -> str:
    """The revision of the store's tables; empty where there are none."""
    if not inspect(db).has_table("alembic_version"):
        return ""
    return str(db.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory  # takes a while, and is seldom needed

    return {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}


def _upgrade(db: Connection, to: str = HEAD) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": db})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, to)
