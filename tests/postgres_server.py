"""A PostgreSQL of our own: on a unix socket, in its own folder, gone when the tests are."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from missing_tool import leave_out

USER: Final = "postgres"  # the server refuses to run as root; else we are the user ourselves
OPTIONS: Final = ("listen_addresses=", "fsync=off", "max_connections=20", "shared_buffers=2MB")


def programs() -> Path:
    """The folder of `initdb` and `postgres`."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        leave_out("no PostgreSQL server: apt install postgresql")
    return folders[-1]


class PostgresServer:
    """A server that runs; every database of it is a fresh one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def database(self) -> str:
        """The URL of an empty database."""
        name = f"fleet{next(self._numbers)}"
        with psycopg.connect(f"host={self._folder} user={USER} dbname=postgres") as connection:
            connection.autocommit = True
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://{USER}@/{name}?host={quote(str(self._folder))}"


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """Start one, and stop it."""
    folder = Path(tempfile.mkdtemp(prefix="fedsparse-pg-"))
    become: list[str] = []
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam(USER)
        except KeyError:
            leave_out(f"no system user '{USER}' to run PostgreSQL as: apt install postgresql")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        become = ["setpriv", *ids, "--"]
    data, environment = folder / "data", {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    try:
        subprocess.run(
            [*become, programs() / "initdb", "--no-sync", "-A", "trust", "-U", USER, "-D", data],
            check=True, capture_output=True, env=environment, cwd=folder,
        )  # fmt: skip
        options = [part for option in OPTIONS for part in ("-c", option)]
        server = subprocess.Popen(
            ["setpriv", *become[1:-1], "--pdeathsig=QUIT", "--",
             programs() / "postgres", "-D", data, "-k", folder, *options],
            stderr=subprocess.PIPE, env=environment, cwd=folder,
        )  # fmt: skip
        try:
            said = []
            assert server.stderr is not None
            for line in server.stderr:
                said.append(line)
                if b"ready to accept connections" in line:
                    break
            else:
                raise AssertionError(b"".join(said).decode())
            yield PostgresServer(folder)
        finally:
            server.terminate()
            server.communicate(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
