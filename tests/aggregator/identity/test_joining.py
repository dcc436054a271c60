from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from aggregator.identity.authority import read_certificate
from aggregator.identity.fleet import Fleet
from aggregator.identity.joining import in_fleet
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.job import JobConfig
from fedsparse.errors import ConfigError
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.tls import open_context

NOW = utc_now()
ROLE = Role(duty=Duty.GATEWAY, job="digits")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.create(tmp_path / "fleet", "plant", ["gateway.local"], NOW) as made:
        yield made


@pytest.fixture
def job(fleet: Fleet, tmp_path: Path) -> JobConfig:
    return JobConfig(
        name="digits",
        site="plant",
        plan=tmp_path / "plan.json",
        output=tmp_path / "job",
        rounds=1,
        fleet=fleet.folder,
    )


def test_a_job_of_a_fleet_has_its_broker_and_a_certificate(fleet: Fleet, job: JobConfig) -> None:
    broker = in_fleet(replace(job, broker=BrokerConfig(keepalive_s=7)), NOW).broker
    assert (broker.host, broker.port, broker.keepalive_s) == ("localhost", 8883, 7)
    assert broker.tls is not None
    open_context(broker.tls, now_s=NOW.timestamp())  # all of it fits together
    assert f"user {ROLE.common_name}\n" in fleet.broker.acl.read_text()


def test_its_certificate_is_kept_until_it_is_due(fleet: Fleet, job: JobConfig) -> None:
    path = fleet.role_file(ROLE)
    certificates = []
    for days in (0, 1, 100, 300):
        moment: datetime = NOW + timedelta(days=days)
        in_fleet(job, moment)
        certificates.append(read_certificate(path))
    assert certificates[0] == certificates[1] == certificates[2] != certificates[3]


def test_a_job_without_a_fleet_is_as_it_is(job: JobConfig) -> None:
    plain = replace(job, fleet=None)
    assert in_fleet(plain, NOW) is plain


def test_a_job_of_another_site_is_refused(job: JobConfig) -> None:
    with pytest.raises(ConfigError, match=r"is the site 'plant', the job's is 'field'"):
        in_fleet(replace(job, site="field"), NOW)


@pytest.mark.parametrize(
    "broker", [BrokerConfig(host="elsewhere"), BrokerConfig(tls=TlsConfig(ca=Path("ca.crt")))]
)
def test_two_who_decide_about_the_broker_are_one_too_many(
    job: JobConfig, broker: BrokerConfig
) -> None:
    with pytest.raises(ConfigError, match=r"leave them out of \[broker\]"):
        in_fleet(replace(job, broker=broker), NOW)


def test_a_job_whose_name_fits_into_no_certificate_is_refused(job: JobConfig) -> None:
    with pytest.raises(ConfigError, match="a job's name has at most 55 letters"):
        in_fleet(replace(job, name="a" * 56), NOW)
