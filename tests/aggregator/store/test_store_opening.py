"""Opening a store: new, old, too new, damaged, full, held by others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from aggregator.store import devices
from aggregator.store.database import Store, open_store
from aggregator.store.migrate import MIGRATIONS, revision
from aggregator.store.schema import HEAD, metadata
from fedsparse.errors import StoreError


def names(store: Store) -> list[str]:
    with store.reading() as db:
        return [device.name for device in devices.everyone(db)]


def put(store: Store, name: str) -> None:
    with store.writing() as db:
        devices.seen(db, {name: ""}, 1)


def test_the_steps_make_the_tables_that_the_program_uses(store: Store) -> None:
    with store.reading() as db:
        assert revision(db) == HEAD
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_the_newest_step_is_the_one_that_is_expected() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_store_that_a_newer_version_wrote_is_refused_and_left_alone(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(where) as opened, opened.writing() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"revision 9999.*newer fedsparse.*install that version"):
        open_store(where)
    monkeypatch.setattr("aggregator.store.database.migrate", lambda db: None)
    with open_store(where) as opened, opened.reading() as db:
        assert revision(db) == "9999"


def opens(where: str, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    with open_store(where) as store:
        put(store, f"device-{os.getpid()}")
        results.put(store.recovered)  # type: ignore[attr-defined]


def test_several_programs_may_open_a_new_store_at_once(where: str) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(4), context.Queue()
    programs = [context.Process(target=opens, args=(where, start, results)) for _ in range(4)]
    for program in programs:
        program.start()
    assert [results.get(timeout=60) for _ in programs] == [""] * 4
    for program in programs:
        program.join()
    with open_store(where) as store:
        assert len(names(store)) == 4


@pytest.mark.parametrize("wrong", ["mysql://localhost/x", "://"])
def test_what_is_no_store_is_named(wrong: str) -> None:
    with pytest.raises(StoreError, match="file"):
        open_store(wrong)


def test_a_server_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="see that its server runs") as caught:
        open_store(f"postgresql://me:secret@/fleet?host={tmp_path}")
    assert "secret" not in str(caught.value)


# SQLite's file


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 3] = os.urandom(4096)
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 3 + 100])


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


DAMAGES: list[Callable[[Path], None]] = [garble, cut, overwrite, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced_by_its_backup(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "fleet.db"
    with open_store(path) as store:
        put(store, "before")
        store.back_up()
        put(store, "after")
    damage(path)
    with open_store(path) as store:
        assert "is now as its last backup was" in store.recovered
        assert names(store) == ["before"]
    kept = list(tmp_path.glob("fleet.db.damaged-*"))
    assert len(kept) == (0 if damage is Path.unlink else 1)
    with open_store(path) as store:
        assert store.recovered == ""
        assert names(store) == ["before"]


def test_a_damaged_file_without_a_backup_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    open_store(path).close()
    overwrite(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"no good backup \(fleet.db.backup\): move it away"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_damaged_file_that_others_have_open_is_not_taken_from_them(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with open_store(path) as store:
        store.back_up()
        with closing(sqlite3.connect(path)) as other:  # else its log has all that matters
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        overwrite(path)
        with pytest.raises(StoreError, match="another program has it open: stop"):
            open_store(path)
    with open_store(path) as store:
        assert store.recovered


def test_a_backup_that_finds_no_room_leaves_the_one_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fleet.db"
    with open_store(path) as store:
        put(store, "before")
        store.back_up()
        put(store, "after")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("fedsparse.durable.os.fsync", full)
            with pytest.raises(StoreError, match=r"No space left on device.*make room"):
                store.back_up()
    assert sorted(one.name for one in tmp_path.glob("*backup*")) == ["fleet.db.backup"]
    overwrite(path)
    with open_store(path) as store:
        assert names(store) == ["before"]


def test_a_full_store_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with open_store(tmp_path / "fleet.db") as store:
        put(store, "before")
        with store.reading() as db:
            db.exec_driver_sql("COMMIT")
            pages = db.exec_driver_sql("PRAGMA page_count").scalar()
            db.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            db.exec_driver_sql("BEGIN")
        with pytest.raises(StoreError, match="full; make room on its disk"), store.writing() as db:
            devices.seen(db, {f"device-{number}": "b" * 200 for number in range(500)}, 1)
        assert names(store) == ["before"]
        with store.reading() as db:
            db.exec_driver_sql("COMMIT")
            db.exec_driver_sql("PRAGMA max_page_count=100000")
            db.exec_driver_sql("BEGIN")
        put(store, "after")
        assert names(store) == ["after", "before"]


def test_a_store_that_another_program_holds_for_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.store.database.BUSY_S", 0.05)
    path = tmp_path / "fleet.db"
    with open_store(path) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert names(store) == []  # readers are not hindered
        with pytest.raises(StoreError, match="locked; another program works in it"):
            put(store, "late")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"fleet.db: .*File exists.*; mend its disk"):
        open_store(tmp_path / "file" / "fleet.db")


def test_only_its_owner_reads_a_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "fleet.db") as store:
        put(store, "a")
        store.back_up()
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    assert modes.keys() >= {"fleet.db", "fleet.db-wal", "fleet.db.backup"}
    assert set(modes.values()) == {0o600}


def count_up(path: str, told: object) -> None:
    with open_store(path) as store:
        for number in range(10_000):
            put(store, f"device-{number:05}")
            told.send(number)  # type: ignore[attr-defined]
            if number % 7 == 0:
                store.back_up()


def test_what_was_committed_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path = tmp_path / "fleet.db"
    for after in (1, 2, 5, 8, 15, 23):
        ours, theirs = context.Pipe(duplex=False)
        program = context.Process(target=count_up, args=(str(path), theirs))
        program.start()
        theirs.close()
        last = -1
        while last < after:
            last = ours.recv()
        assert program.pid is not None
        os.kill(program.pid, signal.SIGKILL)
        program.join()
        while ours.poll():
            try:
                last = ours.recv()
            except EOFError:
                break
        with open_store(path) as store:
            assert store.recovered == ""
            assert names(store)[: last + 1] == [f"device-{n:05}" for n in range(last + 1)]
