"""Rows that are to be there afterwards, whether they were before or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; of one whose primary key is there already, change what the row names.

    Args:
        db: in a transaction.
        table: which.
        rows: all with the same columns, the primary key among them.
    """
    if not rows:
        return
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    statement = make(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    db.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=changed), [dict(r) for r in rows]
    )
