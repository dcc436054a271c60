from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fedsparse.errors import ConfigError
from tools.broker import Login, find_mosquitto, start_broker


def test_a_busy_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*port 0 takes a free one"):
            start_broker(tmp_path, port=port)


@pytest.mark.parametrize("prefer", [None, "amqtt"])
def test_a_broker_for_everyone_needs_a_password(tmp_path: Path, prefer: str | None) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 without a password is open to everyone"):
        start_broker(tmp_path, host="0.0.0.0", prefer=prefer)  # type: ignore[arg-type]  # noqa: S104


def test_amqtt_is_not_given_a_password_that_it_would_not_check(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt install mosquitto"):
        start_broker(tmp_path, prefer="amqtt", login=Login(username="a", password="b"))  # noqa: S106


def test_a_missing_mosquitto_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.broker.find_mosquitto", lambda: None)
    with pytest.raises(ConfigError, match="sudo apt install mosquitto"):
        start_broker(tmp_path, prefer="mosquitto")


def test_amqtt_stands_in_where_mosquitto_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.broker.find_mosquitto", lambda: None)
    broker = start_broker(tmp_path / "new" / "folder")
    try:
        assert (broker.name, broker.host) == ("amqtt", "127.0.0.1")
    finally:
        broker.stop()
    assert broker.process.poll() is not None


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_the_passwords_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    start_broker(tmp_path, login=Login(username="a", password="b")).stop()  # noqa: S106
    assert (tmp_path / "passwords").stat().st_mode & 0o077 == 0
    assert "b" not in (tmp_path / "passwords").read_text().split(":")[1][:2]


def test_a_stopped_broker_is_gone(tmp_path: Path) -> None:
    broker = start_broker(tmp_path)
    os.kill(broker.process.pid, 0)
    broker.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((broker.host, broker.port), timeout=5)
