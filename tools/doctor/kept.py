"""What a job keeps in its folder, and the store: is it there, and is it whole?"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

from aggregator.checkpoint import generations, is_whole, path_of
from aggregator.cli import LOCK, store_of
from aggregator.job import JobConfig
from aggregator.spool import SEGMENT, Spool
from aggregator.store.database import look_at
from aggregator.store.schema import HEAD
from aggregator.store.sqlite_file import BACKUP
from fedsparse.doctor.machine import folder_row
from fedsparse.doctor.row import Row, fail, fault, ok, warn
from fedsparse.errors import FedSparseError


def runs(output: Path) -> bool:
    """Whether an aggregator works in this folder."""
    try:
        with (output / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def kept_rows(path: Path, job: JobConfig, *, busy: bool) -> Iterator[Row]:
    """The folder of the job, and the store where that is not the fleet's.

    Args:
        path: of `job.toml`.
        job: what it says.
        busy: whether its aggregator runs.
    """
    yield folder_row("output", job.output)
    yield ok("aggregator", "runs" if busy else "does not run")
    yield checkpoint_row(job.output)
    yield from spool_rows(job.output / "spool")
    yield from store_rows(store_of(job, path))


def checkpoint_row(output: Path) -> Row:
    """The generations that are kept: one that is whole is enough to go on."""
    found = generations(output)
    if not found:
        return ok("checkpoint", "none: the job has not begun")
    damaged = [path_of(output, one) for one in found if not is_whole(path_of(output, one))]
    if len(damaged) == len(found):
        return fail(
            "checkpoint",
            f"{', '.join(map(str, damaged))}: damaged, and there is no older one",
            f"restore {output} from its backup, or move the files away to begin the job afresh",
        )
    if damaged:
        return warn(
            "checkpoint",
            f"{damaged[0]} is damaged",
            "nothing: at its next start the job makes it again from the one before",
        )
    return ok("checkpoint", f"round {found[0]} comes next; {len(found)} kept, whole")


def spool_rows(root: Path) -> Iterator[Row]:
    """The updates that have their receipts, by round."""
    for segment in sorted(root.glob(f"*/{SEGMENT}")):
        round_id = int(segment.parent.name)
        try:
            whole, damages = Spool.inspected(root, round_id)
        except OSError as error:
            if segment.exists():  # else the round was done with meanwhile
                yield fail("spool", f"round {round_id}: {error}", "mend the disk")
            continue
        if damages:
            names = ", ".join(sorted({one.device or "unknown" for one in damages}))
            yield warn(
                "spool",
                f"round {round_id}: {whole} whole, {len(damages)} damaged, of {names}",
                "nothing: these devices are asked again; check the disk (smartctl -a)",
            )
        else:
            yield ok("spool", f"round {round_id}: {whole} updates, whole")


def store_rows(where: str | Path) -> Iterator[Row]:
    """The fleet's store, and the backup beside it where it is a file."""
    path = None if "://" in str(where) else Path(where)
    if path is not None and not path.exists():
        yield missing_row(path)
        return
    try:
        found = look_at(where)
    except FedSparseError as error:
        yield fault("store", error, "restore it from its backup (docs/operations.md)")
        return
    except OSError as error:
        yield fail("store", f"{where}: {error}", "run this as the user that the service has")
        return
    if found != HEAD:
        yield warn(
            "store",
            f"its tables are of revision {found or 'none'}, this version has {HEAD}",
            "start the job: it upgrades them; or install the version that wrote them",
        )
    else:
        yield ok("store", f"{path or 'the database'}: whole, revision {found}")
    if path is not None:
        yield backup_row(path.with_name(path.name + BACKUP))


def missing_row(path: Path) -> Row:
    """A file of SQLite that is not there: it may be gone, or not be there yet."""
    backup = path.with_name(path.name + BACKUP)
    if not backup.exists():
        return ok("store", f"{path}: is made at the first start")
    fix = f"start the job or `fedsparse broker`: it goes on from {backup.name}"
    return warn("store", f"{path}: it is gone", fix)


def backup_row(backup: Path) -> Row:
    """The last good state, kept beside the store."""
    if not backup.exists():
        return ok("backup", f"{backup}: none yet; a running job writes it")
    try:
        look_at(backup)
    except (FedSparseError, OSError) as error:
        return warn("backup", str(error), "remove it: a running job writes another one")
    return ok("backup", f"{backup}: whole")
