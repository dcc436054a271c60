"""A small fleet with an authority: every device comes in by the commands that its owner has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from e2e_fleet import JOB, Fleet

from aggregator.identity.broker_files import enrolment_broker
from aggregator.identity.fleet import Fleet as Home
from aggregator.identity.names import Duty, Role
from aggregator.identity.running import process_of
from aggregator.job import CohortConfig
from edge_client.config import ClientConfig
from fedsparse.config import load
from fedsparse.transport.base import Received
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport
from tools.broker import find_mosquitto, free_port
from tools.demo.processes import python_module
from tools.demo.toml_writer import to_toml

PATIENCE_S = 90.0


class SecuredFleet(Fleet):
    """The same fleet, but nobody comes in without a certificate, and what counts is signed."""

    def __init__(self, folder: Path, cohort: CohortConfig = JOB.cohort) -> None:
        super().__init__(folder, replace(JOB, cohort=cohort))
        self.broker.stop()  # the one for trials
        self.home = folder / "fleet"
        self.port, self.desk, service = (free_port("127.0.0.1", 0) for _ in range(3))
        self.operator(
            "init", str(self.home), "--site", JOB.site, "--host", "localhost",
            "--port", str(self.port), "--enrolment-port", str(self.desk),
            "--service-port", str(service),
        )  # fmt: skip
        job = replace(self.job, broker=BrokerConfig(keepalive_s=5), fleet=self.home)
        (folder / "job.toml").write_text(to_toml(job), encoding="utf-8")

    def operator(self, *arguments: str) -> str:
        """What `fedsparse identity` says."""
        return self._said(python_module("tools.cli", "identity", *arguments))

    def let_all_in(self) -> None:
        """Every device enrols; the service is there for that long."""
        serve = python_module("tools.cli", "identity", "serve", "--fleet", str(self.home))
        self._children.start("identity", serve)
        self._eventually(lambda: "enrolment=open" in self.log_of("identity"))
        for device in self.devices:
            self._let_in(device)
        self._children["identity"].process.send_signal(signal.SIGTERM)
        self.wait_for_exit("identity")

    def identity_of(self, device: str) -> Path:
        """Its certificate and key."""
        return self.folder / device / "identity" / "device.pem"

    def _let_in(self, device: str) -> None:
        toml, path = self.folder / f"{device}.toml", self.identity_of(device)
        tls = TlsConfig(ca=path.with_name("ca.pem"), certificate=path, key=path)
        broker = BrokerConfig(host="localhost", port=self.port, keepalive_s=5, tls=tls)
        toml.write_text(to_toml(replace(_client(toml), broker=broker)), encoding="utf-8")
        code = json.loads(self.operator("token", device, "--json", "--fleet", str(self.home)))
        command = python_module(
            "edge_client.cli", "enrol", str(toml), "--fingerprint", code["short_fingerprint"],
            "--port", str(self.desk),
        )  # fmt: skip
        assert f"enrolled: {device}" in self._said(command, stdin=code["code"] + "\n")

    def start_broker(self) -> None:
        command = python_module("tools.cli", "broker", "--fleet", str(self.home))
        self._children.start("broker", command)
        self._eventually(lambda: "listens on port" in self.log_of("broker"))

    def start_rogue_broker(self) -> BrokerConfig:
        """The fleet's broker, taken over: it has certificate and key, and lets everybody do all.

        Returns: where a program of the attacker comes to it.
        """
        with Home.open(self.home) as home:
            true = home.broker.conf.read_text(encoding="utf-8")
        plain = free_port("127.0.0.1", 0)
        lines = [line for line in true.splitlines() if not line.startswith("acl_file")]
        lines += [f"listener {plain} 127.0.0.1", "allow_anonymous true", ""]
        conf = self.folder / "rogue.conf"
        conf.write_text("\n".join(lines), encoding="utf-8")
        program = find_mosquitto()
        assert program is not None
        self._children.start("broker", [program, "-c", str(conf)])
        config = BrokerConfig(port=plain, keepalive_s=5)
        self._eventually(lambda: _listens(plain) and _listens(self.port))
        return config

    def pass_of(self, role: str) -> BrokerConfig:
        """With what a process of the gateway comes to the fleet's broker."""
        self.operator("issue", role, "--fleet", str(self.home))
        with Home.open(self.home) as home:
            path = home.role_file(Role(duty=Duty.GATEWAY, job=role.partition(".")[2]))
            tls = TlsConfig(ca=home.broker.authority, certificate=path, key=path)
        return BrokerConfig(host="localhost", port=self.port, keepalive_s=5, tls=tls)

    def log_of(self, name: str) -> str:
        """What a process has written so far."""
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if (left := process_of(enrolment_broker(self.home))) is not None:
            os.kill(left, signal.SIGKILL)

    def _eventually(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, list((self.folder / "logs").iterdir())
            time.sleep(0.02)

    def _said(self, command: list[str], stdin: str = "") -> str:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Eyes:
    """A client that hears all that it may; it is asked what came."""

    def __init__(self, broker: BrokerConfig, client_id: str, *filters: str) -> None:
        self.transport = MqttTransport(broker, client_id=client_id, clean_session=True)
        for one in filters:
            self.transport.subscribe(one)
        self.transport.start()

    def came(self) -> Iterator[Received]:
        while (event := self.transport.receive(0.0)) is not None:
            if isinstance(event, Received):
                yield event

    def close(self) -> None:
        self.transport.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _client(toml: Path) -> ClientConfig:
    return load(ClientConfig, toml)
