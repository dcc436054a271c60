"""What a visit to the broker says: features, limits, and permission on each topic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fedsparse.doctor.row import Row, fail, ok, warn
from fedsparse.doctor.visit import Errand, Findings
from fedsparse.transport.config import LEAST_PACKET_BYTES, BrokerConfig

KIB: Final = 1024
FEW: Final = 4
UNSEEN: Final = (
    "not verifiable: nothing waits there now, and a broker grants a subscription that it then does "
    "not serve"
)
UNTOLD: Final = "not verifiable: before MQTT 5 a broker does not say that it refuses a payload"
MISSING: Final = "the broker's answer did not come"


def feature_rows(broker: BrokerConfig, found: Findings) -> Iterator[Row]:
    """What the broker grants to everybody."""
    greeting = found.greeting
    if greeting is None:
        return
    kept = "session kept" if greeting.resumed else "no session of before"
    yield ok("mqtt", f"version {found.version}, {kept}")
    yield _packet_row(broker, greeting.packet_bytes)
    yield _in_flight_row(greeting.in_flight)
    if not greeting.retains or greeting.quality < 1:
        lacks = "retained payloads" if not greeting.retains else "QoS 1"
        yield fail("features", f"no {lacks}", f"set the broker to allow {lacks}")
    else:
        yield ok("features", "retained payloads, QoS 1")


def permission_rows(errand: Errand, found: Findings, grant: str) -> Iterator[Row]:
    """What we may say and hear there.

    Args:
        errand: what was tried.
        found: what came of it.
        grant: how a permission is given.
    """
    for topic in errand.says:
        if why := found.refused.get(topic):
            yield fail("may write", f"{topic}: {why}", grant)
        elif topic not in found.taken:
            yield fail("may write", f"{topic}: {MISSING}: {found.ended}", grant)
        elif found.version != "5":
            yield ok("may write", f"{topic}: {UNTOLD}")
        else:
            yield ok("may write", topic)
    for topic_filter in errand.hears:
        if found.hears(topic_filter):
            yield ok("may read", topic_filter)
        else:
            yield ok("may read", f"{topic_filter}: {UNSEEN}")


def _packet_row(broker: BrokerConfig, said: int | None) -> Row:
    limits = [one for one in (said, broker.max_packet_bytes) if one is not None]
    if not limits:
        return ok("packet limit", "the broker names none")
    least = min(limits)
    value = f"{least // KIB} KiB"
    if least < LEAST_PACKET_BYTES:
        needed = f"{LEAST_PACKET_BYTES} at least"
        return fail("packet limit", value, f"set the broker's `max_packet_size` to {needed}")
    return ok("packet limit", value)


def _in_flight_row(payloads: int | None) -> Row:
    if payloads is None:
        return ok("in flight", "the broker names no limit")
    if payloads < FEW:
        return warn(
            "in flight",
            f"{payloads} payloads: transfers are slow",
            "raise the broker's `max_inflight_messages` (20 is its default)",
        )
    return ok("in flight", f"{payloads} payloads")
