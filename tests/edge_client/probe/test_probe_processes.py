"""Programs are found by their exact names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_client.probe.processes import running


def add(root: Path, pid: str, comm: str, *command: str) -> None:
    folder = root / "proc" / pid
    folder.mkdir(parents=True)
    (folder / "comm").write_text(comm + "\n", encoding="utf-8")
    (folder / "cmdline").write_bytes(b"\0".join(map(str.encode, command)) + b"\0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "1", "systemd", "/sbin/init")
    add(tmp_path, "20", "ffmpeg", "/usr/bin/ffmpeg", "-i", "x")
    add(tmp_path, "21", "libcamera-still", "/usr/bin/libcamera-still")
    add(tmp_path, "22", "a-very-long-nam", "/usr/bin/python3", "/opt/a-very-long-name.py")
    (tmp_path / "proc" / "30").mkdir()  # it has ended meanwhile
    (tmp_path / "proc" / "self").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("ffmpeg", True),
        ("ffmpe", False),
        ("ffmpeg2", False),
        ("FFMPEG", False),
        ("libcamera-still", True),
        ("libcamera-still-2", False),
        ("a-very-long-name.py", True),
        ("a-very-long-name.pyc", False),
    ],
)
def test_a_program_is_known_by_its_exact_name(root: Path, name: str, runs: bool) -> None:
    assert running([name], root) == ((name,) if runs else ())


def test_those_that_run_are_named_in_the_order_asked_for(root: Path) -> None:
    assert running(["motion", "systemd", "ffmpeg"], root) == ("systemd", "ffmpeg")


def test_nobody_looks_where_nothing_is_asked_for(tmp_path: Path) -> None:
    assert running([], tmp_path / "nowhere") == ()


@pytest.mark.parametrize("name", ["fsp-short", "fsp-a-name-that-is-cut"])
def test_a_real_process_is_found_while_it_runs(tmp_path: Path, name: str) -> None:
    source = shutil.which("cat")
    assert source is not None
    program = tmp_path / name
    shutil.copy(source, program)
    pipe = subprocess.PIPE
    with subprocess.Popen([str(program)], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"it runs\n")  # before that it may still be the process that began it
        process.stdin.flush()
        assert process.stdout.readline() == b"it runs\n"
        found = running([name])
        process.stdin.close()
    assert found == (name,)
    assert running([name]) == ()


def test_where_processes_cannot_be_listed_none_is_found(tmp_path: Path) -> None:
    assert running(["ffmpeg"], tmp_path / "nowhere") == ()
