"""A broker for trials and tests: mosquitto where it is installed, else amqtt in a child process."""

from __future__ import annotations

import asyncio
import base64
import getpass
import hashlib
import ipaddress
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fedsparse.errors import ConfigError, TransportError

Name = Literal["mosquitto", "amqtt"]
START_S: Final = 20.0
STOP_S: Final = 5.0
POLL_S: Final = 0.02
ATTEMPTS: Final = 5  # at a free port, which another process may take before the broker does
PBKDF2_ROUNDS: Final = 101  # mosquitto_passwd's default
MOSQUITTO_CONF: Final = """\
listener {port} {host}
{access}
user {user}
persistence true
persistence_location {folder}/
max_inflight_messages 20
max_queued_messages 100000
max_queued_bytes 500000000
log_dest file {folder}/mosquitto.log
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What clients must know; without one, everyone on this machine may connect."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBroker:
    """A broker process that accepts connections."""

    name: Name
    host: str
    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the process: politely, so that it saves its sessions, then by force."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_broker(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    prefer: Name | None = None,
    login: Login | None = None,
) -> RunningBroker:
    """Start a broker and wait until it accepts connections.

    Args:
        folder: for its configuration, log and state; created.
        host: the address to listen on; beyond this machine only with a `login`.
        port: 0 takes a free one.
        prefer: insist on one of the two brokers.
        login: what clients must know; mosquitto only.

    Raises:
        ConfigError: the port is taken, the broker is missing, or it would be open to everyone.
        TransportError: it does not start.
    """
    mosquitto = None if prefer == "amqtt" else find_mosquitto()
    if prefer == "mosquitto" and mosquitto is None:
        raise ConfigError("mosquitto is not installed: sudo apt install mosquitto")
    if not 0 <= port < 65536:
        raise ConfigError(f"port {port}: it must be 0 to 65535; 0 takes a free one")
    if login is None and not _is_loopback(host):
        raise ConfigError(f"a broker on {host} without a password is open to everyone: set one")
    if login is not None and mosquitto is None:
        raise ConfigError("only mosquitto checks passwords here: sudo apt install mosquitto")
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        chosen = free_port(host, port)
        if mosquitto is not None:
            command = _mosquitto_command(mosquitto, folder.resolve(), host, chosen, login)
            broker = launch("mosquitto", command, folder, host, chosen)
        else:
            command = [sys.executable, "-m", "tools.broker", host, str(chosen)]
            broker = launch("amqtt", command, folder, host, chosen)
        if broker is not None:
            return broker
        if port:
            break
        logging.getLogger(__name__).debug("port %d was taken, attempt %d", chosen, attempt + 1)
    raise TransportError(f"the broker does not start on {host}; its log is in {folder}")


def find_mosquitto() -> str | None:
    """Where mosquitto is; Debian installs it outside of a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, port: int) -> int:
    """A port that could be bound a moment ago: the one asked for, or any.

    Raises:
        ConfigError: it is taken, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what is using the port "
                "(`ss -ltnp` names it), or choose another; port 0 takes a free one"
            ) from error
        return int(probe.getsockname()[1])


def _mosquitto_command(
    program: str, folder: Path, host: str, port: int, login: Login | None
) -> list[str]:
    access = "allow_anonymous true"
    if login is not None:
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        passwords.write_text(f"{login.username}:{_password_hash(login.password)}\n")
        access = f"allow_anonymous false\npassword_file {passwords}"
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        MOSQUITTO_CONF.format(
            port=port, host=host, access=access, user=getpass.getuser(), folder=folder
        )
    )
    return [program, "-c", str(configuration)]


def _password_hash(password: str) -> str:
    """A line of mosquitto's password file (format 7: PBKDF2-HMAC-SHA512)."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ROUNDS)
    salt_text, digest_text = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"$7${PBKDF2_ROUNDS}${salt_text}${digest_text}"


def launch(
    name: Name,
    command: list[str],
    folder: Path,
    host: str,
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> RunningBroker | None:
    """Start a broker process and wait until it accepts connections.

    Args:
        name: which broker it is.
        command: what starts it.
        folder: where what it prints goes.
        host: the address on which it will listen, with `port`.
        port: as above.
        environment: variables of its own.

    Returns:
        None where it ended at once, or accepted nothing for `START_S`.
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with (folder / f"{name}.out").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        )
    broker = RunningBroker(name=name, host=host, port=port, process=process)
    if not _wait_for(lambda: process.poll() is not None or _accepts(host, port), START_S):
        broker.stop()
        return None
    return broker if process.poll() is None else None


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(POLL_S)
    return True


def _accepts(host: str, port: int) -> bool:
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (a comparison)
    try:
        with socket.create_connection((target, port), timeout=1.0):
            return True
    except OSError:
        return False


def _serve_amqtt(host: str, port: int) -> None:
    """Run amqtt until the process is ended."""
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig

    async def serve() -> None:
        plugin = "amqtt.plugins.authentication.AnonymousAuthPlugin"
        config = BrokerConfig(
            listeners={"default": ListenerConfig(bind=f"{host}:{port}")},
            plugins={plugin: {"allow_anonymous": True}},
        )
        await Broker(config).start()
        await asyncio.Event().wait()

    logging.disable(logging.ERROR)  # it reports every connection that breaks off as an error
    asyncio.run(serve())


if __name__ == "__main__":
    _serve_amqtt(sys.argv[1], int(sys.argv[2]))
