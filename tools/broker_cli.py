"""The command `fedsparse broker`: a broker in the foreground."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from fedsparse.errors import ConfigError, TransportError
from tools.broker import Login, start_broker
from tools.demo.processes import ended_by_signals


def run_broker(
    folder: Path, host: str, port: int, username: str, password_file: Path | None
) -> None:
    """Start a broker and return when Ctrl-C ends it.

    Raises:
        ConfigError: half a login, an unreadable password, or what `start_broker` refuses.
        TransportError: the broker ended by itself.
    """
    login = _login(username, password_file)
    running = start_broker(folder, host=host, port=port, login=login)
    typer.echo(f"{running.name} on {running.host}:{running.port}; Ctrl-C ends it", err=True)
    try:
        with contextlib.suppress(KeyboardInterrupt), ended_by_signals():
            code = running.process.wait()
            raise TransportError(f"{running.name} ended with {code}; its log is in {folder}")
    finally:
        running.stop()


def _login(username: str, password_file: Path | None) -> Login | None:
    if not username and password_file is None:
        return None
    if not username or password_file is None:
        raise ConfigError("--username and --password-file belong together: give both")
    try:
        password = password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{password_file}: cannot be read: {error}") from error
    if not password:
        raise ConfigError(f"{password_file}: holds no password")
    return Login(username=username, password=password)
