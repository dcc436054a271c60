"""SQLite's file on the disk: whether it is whole, its backup, and who has it open."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from fedsparse.durable import sync_file, sync_folder

log = logging.getLogger("aggregator.store")

BACKUP: Final = ".backup"
BESIDE: Final = ("-wal", "-shm")  # SQLite's own files


class DamagedError(Exception):
    """The file is damaged, and cannot be recovered here; says what to do."""


class SqliteFile:
    """`fleet.db`, its backup beside it, and a lock that all who have it open share.

    Args:
        path: of the file; its folder is created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backup = path.with_name(path.name + BACKUP)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go of the lock."""
        with suppress(OSError):
            os.close(self._lock)

    def check(self) -> str:
        """Make sure that the file is whole; where it is not, its backup takes its place.

        Returns:
            What was done, for people; empty where nothing had to be.

        Raises:
            DamagedError: there is no good backup, or another program has the file open.
            OSError: the disk is at fault.
        """
        if not self.path.exists() and not self.backup.exists():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))  # it holds keys
            return ""
        reason = damage_of(self.path) if self.path.exists() else "it is gone"
        if not reason:
            return ""
        log.error("store=%s damaged=%r", self.path, reason)
        return self._recover(reason)

    def back_up(self, engine: Engine) -> None:
        """Write the present state beside the file; the backup of before stays until that is done.

        Raises:
            sqlalchemy.exc.DBAPIError: the disk is full, or the file damaged.
            OSError: the disk is at fault.
        """
        fresh = self.path.with_name(f".{self.backup.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(engine.raw_connection()) as connection:
                connection.cursor().execute("VACUUM INTO ?", (str(fresh),))
            sync_file(fresh)
            fresh.replace(self.backup)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _recover(self, reason: str) -> str:
        """Put the backup in the file's place; the damaged one is kept, for whoever wants it."""
        if not self.backup.exists() or damage_of(self.backup):
            raise DamagedError(
                f"{self.path} is damaged ({reason}) and has no good backup ({self.backup.name}): "
                "move it away to begin with an empty one; jobs go on from their own folders, but "
                "devices must be enrolled again"
            )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DamagedError(
                f"{self.path} is damaged ({reason}), and another program has it open: stop the "
                "fleet's other programs, then start this one again: it goes on from the backup"
            ) from error
        kept = self._move_away()
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_bytes(self.backup.read_bytes())
        fresh.chmod(0o600)
        sync_file(fresh)
        fresh.replace(self.path)
        sync_folder(self.path.parent)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        told = f"{self.path} was damaged ({reason}); it is now as its last backup was"
        log.error("store=%s recovered_from=%s damaged_one=%s", self.path, self.backup, kept)
        return told

    def _move_away(self) -> Path:
        number = 1
        while (kept := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        if self.path.exists():
            self.path.replace(kept)
        for ending in BESIDE:
            beside = self.path.with_name(self.path.name + ending)
            if beside.exists():
                beside.replace(kept.with_name(kept.name + ending))
        return kept


def damage_of(path: Path) -> str:
    """What is wrong with a file of SQLite; empty where it is whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb"):
        pass
    try:
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):  # somebody works in it: it is whole
            return ""
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found[:3])
