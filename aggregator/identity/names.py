"""Who a certificate is for: a device, a role of the gateway, or the broker.

The name stands in the certificate as its common name, and the broker takes it as user name and as
client id. A role's begins with an underscore, which no device's name can.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from fedsparse.errors import ConfigError
from fedsparse.wire.messages import NAME

ROLE_MARK: Final = "_"
LONGEST: Final = 64  # characters of a common name (RFC 5280, ub-common-name)


class Duty(str, Enum):
    """What a process of the gateway does on the broker, and so what it may do there."""

    GATEWAY = "gateway"  # the aggregator of one job
    IDENTITY = "identity"  # enrols, renews and revokes devices
    DOCTOR = "doctor"  # looks, and changes nothing
    OPERATOR = "operator"  # throws a device out; its certificates last minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process of the gateway; two with one name would throw each other off the broker.

    Attributes:
        duty: what it does.
        job: of a gateway, the job that it runs; empty for the others.
    """

    duty: Duty
    job: str = ""

    def __post_init__(self) -> None:
        if (self.duty is Duty.GATEWAY) != bool(self.job):
            raise ConfigError(f"a {self.duty.value} {'needs' if not self.job else 'has no'} job")
        if self.job and not NAME.fullmatch(self.job):
            raise ConfigError(f"no job can be named {self.job[:LONGEST]!r}")
        if len(self.common_name) > LONGEST:
            room = LONGEST - len(self.common_name) + len(self.job)
            raise ConfigError(f"a job's name has at most {room} letters in a fleet: {self.job!r}")

    @property
    def text(self) -> str:
        """How an operator writes it: `gateway.<job>`, `identity` or `doctor`."""
        return f"{self.duty.value}.{self.job}" if self.job else self.duty.value

    @property
    def common_name(self) -> str:
        """How its certificate and the broker name it."""
        return ROLE_MARK + self.text


def parse_role(text: str) -> Role:
    """Read `gateway.<job>`, `identity` or `doctor`: the roles that last.

    Raises:
        ConfigError: it is none of these.
    """
    duty, _, job = text.partition(".")
    lasting = [one for one in Duty if one is not Duty.OPERATOR]
    if duty not in [one.value for one in lasting]:
        known = ", ".join("gateway.JOB" if one is Duty.GATEWAY else one.value for one in lasting)
        raise ConfigError(f"no role is named {text[:LONGEST]!r}; there are {known}")
    return Role(duty=Duty(duty), job=job)


def device_name(name: str) -> str:
    """The name, if a device can have it.

    Raises:
        ConfigError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"a device's name is 1 to 64 letters, digits, '_', '.' or '-', the first a letter or "
            f"a digit, got {name[:LONGEST]!r}"
        )
    return name
