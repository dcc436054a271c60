"""Opening a fleet's store, and working in it: one transaction at a time, or none at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from aggregator.store.migrate import migrate, revision
from aggregator.store.sqlite_file import DamagedError, SqliteFile, damage_of
from fedsparse.errors import StoreError

log = logging.getLogger("aggregator.store")

FLEET: Final = "fleet.db"
BUSY_S: Final = 5.0  # for which another process may hold the store
PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class Store:
    """A fleet's store, open; of one thread.

    Args:
        engine: connects to it.
        file: where it is one of SQLite.

    Attributes:
        recovered: what was lost on opening it: the file was damaged, and its backup took its place;
            empty where all is well.
    """

    def __init__(self, engine: Engine, file: SqliteFile | None, recovered: str = "") -> None:
        self._engine = engine
        self._file = file
        self.recovered = recovered

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, durable at the end of the block; nothing of it stays where that raises.

        Raises:
            StoreError: the store is damaged, full, held by another process for long, or away.
        """
        with _explained(self._engine.url), self._engine.begin() as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A view of one moment, which hinders nobody from writing.

        Raises:
            StoreError: the store cannot be read.
        """
        with _explained(self._engine.url), self._engine.connect() as db:
            yield db.execution_options(reading=True)

    def back_up(self) -> None:
        """Keep the present state as the last good one; of PostgreSQL its own tools do that.

        Raises:
            StoreError: there is no room for it; the backup of before still is there.
        """
        if self._file is not None:
            with _explained(self._engine.url):
                self._file.back_up(self._engine)

    def close(self) -> None:
        """Let go of it."""
        self._engine.dispose()
        if self._file is not None:
            self._file.close()


def open_store(where: str | Path) -> Store:
    """Open a store, made or upgraded where need be, and checked.

    Args:
        where: a file of SQLite, or the URL of a database (`postgresql://user@host/name`).

    Raises:
        StoreError: it cannot be reached or made; it is damaged and has no backup; or a newer
            version of this program has written it.
    """
    url = _url(where)
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, connect_args={"client_encoding": "utf8"})
        return _migrated(Store(engine, None), engine)
    with _explained(url):
        file = SqliteFile(Path(url.database or FLEET))
        try:
            recovered = file.check()
        except BaseException:
            file.close()
            raise
    engine = create_engine(url, connect_args={"timeout": BUSY_S})
    _configure(engine)
    return _migrated(Store(engine, file, recovered), engine)


def look_at(where: str | Path) -> str:
    """The revision of a store's tables; nothing is made, upgraded or recovered.

    Args:
        where: as for `open_store`; a file must exist.

    Raises:
        StoreError: it is damaged, or cannot be reached.
    """
    url = _url(where)
    with _explained(url):
        path = Path(url.database or FLEET)
        is_file = url.get_backend_name() == "sqlite"
        if is_file and (reason := damage_of(path)):
            raise StoreError(
                f"the store {path} is damaged ({reason}); start the job or `fedsparse broker` "
                "again: it goes on from the backup beside it"
            )
        engine = create_engine(url)
        try:
            with engine.connect() as db:
                return revision(db)
        finally:
            engine.dispose()


def _migrated(store: Store, engine: Engine) -> Store:
    try:
        with store.writing() as db:
            migrate(db)
    except BaseException:
        with suppress(SQLAlchemyError):
            store.close()
        raise
    return store


def _url(where: str | Path) -> URL:
    """The URL of a store; PostgreSQL is spoken to by psycopg, whatever the URL says of drivers."""
    text = str(where)
    if "://" not in text:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreError(f"store {text!r} is neither a file nor the URL of a database") from error
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return url.set(drivername="sqlite")
    raise StoreError(
        f"store {url.render_as_string()!r}: write the path of a file, or "
        "postgresql://user@host/database"
    )


def _configure(engine: Engine) -> None:
    """SQLite as a store needs it: transactions that are ours, readers beside a writer."""

    def connected(connection: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ANN401
        connection.isolation_level = None  # the driver begins no transactions of its own
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()

    def begun(db: Connection) -> None:
        # A transaction that will write takes the lock at once: it cannot fail for it later.
        kind = "DEFERRED" if db.get_execution_options().get("reading") else "IMMEDIATE"
        db.exec_driver_sql(f"BEGIN {kind}")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    """What a driver says, as an error with the way out."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(
            f"the store {_name(url)}: {str(error.orig).strip()}; {_way_out(error)}"
        ) from error
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store {_name(url)} needs {error.name}: pip install 'fedsparse[postgres]'"
        ) from error
    except DamagedError as error:
        raise StoreError(str(error)) from error
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(f"the store {_name(url)}: {error}; mend its disk, or make room") from error


def _name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def _way_out(error: DBAPIError) -> str:
    said = str(error.orig).lower()
    if "full" in said or "no space" in said:
        return "make room on its disk"
    if "locked" in said:
        return "another program works in it for long: see what hangs"
    if "malformed" in said or "not a database" in said:
        return "start this program again: it goes on from the last backup"
    if "readonly" in said or "unable to open" in said:
        return "see that its folder exists and can be written"
    return "see that its server runs and lets this user in"
