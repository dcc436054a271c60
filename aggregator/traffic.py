"""Bytes over MQTT, by device, for the round that is open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from fedsparse.transport.channel import Channel
from fedsparse.wire.messages import Part


@dataclass(slots=True)
class DeviceTraffic:
    """One device's bytes in one round.

    Attributes:
        up, down: whole PUBLISH packets, from and to the device; offers count for each device.
        up_mask, down_mask: the part of them that encodes masks; `down_plan`: the plan.
        ideal_up, ideal_down: kept values and dense tensors alone, as the job has them encoded.
    """

    up: int = 0
    down: int = 0
    up_mask: int = 0
    down_mask: int = 0
    down_plan: int = 0
    ideal_up: int = 0
    ideal_down: int = 0

    def sent(self, parts: Iterable[Part]) -> None:
        """Note what a message to the device is made of."""
        for part in parts:
            if part.name == "values":
                self.ideal_down += part.size
            elif part.name == "mask":
                self.down_mask += part.size
            else:
                self.down_plan += part.size

    def received(self, parts: Iterable[Part]) -> None:
        """Note what a message from the device is made of."""
        for part in parts:
            if part.name == "mask":
                self.up_mask += part.size
            else:
                self.ideal_up += part.size


@dataclass(slots=True)
class Traffic:
    """The ledger of a round; a channel counts the packets."""

    channel: Channel
    _devices: dict[str, DeviceTraffic] = field(default_factory=dict)
    _before: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, device: str) -> DeviceTraffic:
        """The entry of `device`."""
        return self._devices.setdefault(device, DeviceTraffic())

    def close(self) -> dict[str, dict[str, int]]:
        """The entries since the last call, as plain numbers, for devices that said anything."""
        offers = self._since("")[1]
        for device in [name for name in self.channel.traffic if name]:
            up, down = self._since(device)
            if up:
                entry = self.of(device)
                entry.up, entry.down = up, down + offers
        entries = {device: asdict(entry) for device, entry in sorted(self._devices.items())}
        self._devices = {}
        return entries

    def _since(self, device: str) -> tuple[int, int]:
        now = self.channel.traffic[device]
        up, down = self._before.get(device, (0, 0))
        self._before[device] = (now.received_bytes, now.sent_bytes)
        return now.received_bytes - up, now.sent_bytes - down
