"""The brokers that run with a fleet's files: finding them, and telling them to read these again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from aggregator.identity.broker_files import BrokerFolder
from aggregator.identity.fleet import Fleet
from fedsparse.errors import ConfigError, TransportError

COMMAND_S: Final = 60.0
READY_S: Final = 10.0
PAUSE_S: Final = 0.01
LOG_BYTES: Final = 8 * 1024 * 1024


def process_of(folder: BrokerFolder) -> int | None:
    """The process that runs with these files; None where none does.

    A number that a broker left behind when it was killed may be another process by now: it counts
    only if that was started with these files.
    """
    try:
        pid = int(folder.pid.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(folder.conf) in command else None


def reload_brokers(fleet: Fleet) -> bool:
    """Tell the fleet's brokers, where they run, to read their files again.

    Returns:
        Whether the fleet's broker is known to run; it has not yet read them when this returns.

    Raises:
        ConfigError: the operator's command fails.
        TransportError: the broker belongs to another user.
    """
    _signal(fleet.enrolment)
    if command := fleet.config.broker.reload_command:
        _run(command)
        return True
    return _signal(fleet.broker)


def rotate_log(folder: BrokerFolder, *, at_bytes: int = LOG_BYTES) -> bool:
    """Put a log aside that has grown large, whatever strangers made the broker say; one is kept.

    Returns:
        Whether it was; the broker goes on in a new file.
    """
    try:
        if folder.log.stat().st_size < at_bytes:
            return False
    except FileNotFoundError:
        return False
    folder.log.replace(folder.log.with_name(folder.log.name + ".1"))
    return _signal(folder)


def _signal(folder: BrokerFolder) -> bool:
    pid = process_of(folder)
    if pid is None or not _listens_to_signals(pid):
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise TransportError(
            f"the broker of {folder.path} (process {pid}) belongs to another user: run this as "
            "that user, or set [broker] reload_command"
        ) from error
    return True


def _listens_to_signals(pid: int) -> bool:
    """Whether a signal will not end it: it has a number before it is ready for any."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1:
            return True
        time.sleep(PAUSE_S)
    return False


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (the operator's own command)
            command, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"[broker] reload_command: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise ConfigError(f"[broker] reload_command ended with {done.returncode}: {said}")
