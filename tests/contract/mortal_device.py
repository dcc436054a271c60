"""A device process that announces itself and then waits to be killed: PORT, FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from fedsparse.transport.channel import Channel, status_will
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.messages import Status
from fedsparse.wire.topics import Topics

if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    topics = Topics("home")
    status = Status(device="pi", online=True)
    transport = MqttTransport(
        BrokerConfig(port=port), client_id="pi", will=status_will(topics, status)
    )
    channel = Channel(transport, topics, device="pi", spool=folder, status=status)
    channel.start()
    while True:
        channel.poll(1.0)
