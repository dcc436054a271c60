"""Starting and ending an agent: configuration, connection, signals."""

from __future__ import annotations

import logging
import random
import time
import uuid
from pathlib import Path
from typing import Final

from edge_client.agent.agent import Agent
from edge_client.agent.renewal import Renewal, known_moment_s
from edge_client.agent.trust import trust_in_gateway
from edge_client.config import ClientConfig
from edge_client.data.header import count_samples
from edge_client.host import open_host
from edge_client.lock import alone
from edge_client.probe.link import LinkLog
from edge_client.store import Store
from fedsparse import __version__
from fedsparse.config import load
from fedsparse.errors import DataError, TransportError
from fedsparse.stopping import Stopped, stopped_by_signals
from fedsparse.transport.channel import Channel, status_will
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.messages import Status
from fedsparse.wire.topics import Topics

log = logging.getLogger("edge-client")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


def run(path: Path) -> int:
    """Run the device that `client.toml` describes until it is told to stop; returns 0.

    Raises:
        ConfigError, DataError: the file, the store, the profile or the samples are at fault, or
            another agent works with the store.
    """
    config = load(ClientConfig, path)
    if count_samples(config.data.path)[0] == 0:  # is to fail here, not in a round
        raise DataError(f"{config.data.path}: no samples: x is empty")
    with alone(config.store):
        return _run(path, config)


def _run(path: Path, config: ClientConfig) -> int:
    store = Store(config.store)
    links = LinkLog(store.link)
    host = open_host(config.profile, link=lambda: links.estimate, folder=path.resolve().parent)
    status = Status(
        device=config.device,
        online=True,
        board=host.board,
        version=__version__,
        session=uuid.uuid4().hex[:8],
    )
    topics = Topics(config.site)
    transport = MqttTransport(
        config.broker,
        client_id=f"device/{config.site}/{config.device}",
        will=status_will(topics, status),
        clock_floor_s=known_moment_s(config),
    )
    channel = Channel(
        transport,
        topics,
        device=config.device,
        spool=store.incoming,
        status=status,
        trust=trust_in_gateway(config),
        on_transfer=links.record,
    )
    log.info(
        "device=%s site=%s board=%r version=%s", config.device, config.site, host.board, __version__
    )
    renewal = Renewal(path, config)
    with stopped_by_signals():
        agent = Agent(config, store, host, channel)
        try:
            _connect(channel, f"{config.broker.host}:{config.broker.port}")
            _work(agent, renewal)
        except Stopped:
            log.info("stopping=yes")
        finally:
            renewal.close()
            agent.close()
    return 0


def _work(agent: Agent, renewal: Renewal) -> None:
    while True:
        try:
            renewal.tick()
            agent.step()
        except TransportError as error:  # too much waits for a broker that is away
            log.warning("not_sent=%r", str(error))
        except OSError as error:  # the disk is full, or gone: the next round may find it well
            log.error("disk=%r; make room on the file system of `store`", str(error))


def _connect(channel: Channel, address: str) -> None:
    """A device may be up before its gateway: try until the broker is there."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            channel.start()
        except TransportError as error:
            wait_s = random.uniform(0.5, 1.0) * pause_s  # noqa: S311 (a fleet must not be in step)
            log.warning("broker=%s unreachable=%r again_in=%.1f", address, str(error), wait_s)
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            return
