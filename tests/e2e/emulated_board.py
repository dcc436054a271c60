"""A board's Python under qemu-user: its processor and its libraries, on this machine's kernel.

Debian's python3 for another architecture is unpacked into a folder, without emulating its
installation; wheels are installed into another by this machine's pip. What is slow here says
nothing about the board.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from missing_tool import leave_out

CACHE: Final = Path(__file__).parents[2] / "out" / "boards"
PACKAGES: Final = ("python3", "libstdc++6")  # numpy's wheels need the second
MANYLINUX: Final = ("2_28", "2_27", "2_24", "2_17")  # what Debian 12's glibc can run
EMULATOR: Final = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}  # by Debian's name


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedBoard:
    """A Python to start as if it were a program of this machine.

    Attributes:
        python: a script that starts it; also what `sys.executable` says there.
        version: of that Python, such as `3.11`.
        site: the folder of what is installed for it.
    """

    python: Path
    version: str
    site: Path

    def run(
        self, *arguments: str, cwd: Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [str(self.python), *arguments], cwd=cwd, check=check, capture_output=True, text=True
        )

    def install(self, *requirements: str, pure: bool = False) -> None:
        """Install wheels, for aarch64 or of Python alone, without emulation."""
        aarch64 = [f"--platform=manylinux_{glibc}_aarch64" for glibc in MANYLINUX]
        platforms = ["--platform=any"] if pure else aarch64
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(self.site),
                   "--disable-pip-version-check", "--no-compile", "--only-binary=:all:",
                   f"--python-version={self.version}", *platforms, *requirements]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]


def start_board(architecture: str, folder: Path) -> EmulatedBoard:
    """A board of Debian's `architecture` with nothing but Python; its files go into `folder`.

    What it needs of this machine (qemu-user, apt, Debian's mirror) is named where it is missing.
    """
    emulator = _emulator(EMULATOR[architecture])
    root = _root(architecture)
    site = folder / "site"
    site.mkdir()
    python = folder / "python"
    command = shlex.join([emulator, "-L", str(root), str(root / "usr/bin/python3")])
    searched = f"{shlex.quote(str(site))}${{PYTHONPATH:+:$PYTHONPATH}}"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={searched} exec {command} "$@"\n')
    python.chmod(0o755)
    # The kernel cannot start a foreign program; children are to take the same way as we do.
    (site / "sitecustomize.py").write_text(f"import sys\nsys.executable = {str(python)!r}\n")
    asked = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return EmulatedBoard(python=python, version=version, site=site)


def _emulator(name: str) -> str:
    found = next(filter(shutil.which, (name, f"{name}-static")), None)
    return found or leave_out(f"{name} is not installed: sudo apt-get install qemu-user")


def _root(architecture: str) -> Path:
    """Debian's files, unpacked on the first run."""
    root = CACHE / architecture
    if root.exists():
        return root
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            leave_out(f"{program} is not installed: an emulated board is made of Debian packages")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        fresh = Path(name) / "root"
        for package in _packages(architecture, Path(name)):
            subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True)
        fresh.rename(root)
    return root


def _packages(architecture: str, folder: Path) -> Iterable[Path]:
    """The packages with all that they need, from the sources of this machine's own apt."""
    (folder / "status").touch()  # nothing is installed there
    for empty in ("state/lists/partial", "cache/archives/partial"):
        (folder / empty).mkdir(parents=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "Dir::Cache": folder / "cache",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    install = ["install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES]
    # A source that cannot be read just now need not be the one that is needed.
    done = [
        subprocess.run(
            [*apt, *command], capture_output=True, text=True, check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
        for command in (["update"], install)
    ]  # fmt: skip
    if done[-1].returncode != 0:
        said = "\n".join(one.stderr.strip()[-500:] for one in done)
        leave_out(f"apt gives no {architecture} packages (Debian's mirrors have them; Ubuntu keeps "
                  f"them apart): {said}")  # fmt: skip
    return (folder / "cache" / "archives").glob("*.deb")
