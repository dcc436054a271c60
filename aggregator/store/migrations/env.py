"""What Alembic runs: the connection comes from `aggregator/store/migrate.py`, in a transaction."""

from __future__ import annotations

from alembic import context

from aggregator.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
