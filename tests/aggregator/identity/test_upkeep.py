"""What runs out is renewed in time, whichever program of the gateway starts first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from fleet_world import JOB, World, shown_on

from aggregator.identity.authority import read_certificate
from aggregator.identity.broker_files import BrokerFolder
from aggregator.identity.fleet import Fleet
from aggregator.identity.keys import read_service_key
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.publishing import publish
from aggregator.identity.running import rotate_log
from aggregator.identity.upkeep import add_role, is_due, keep_fresh, renew_broker
from fedsparse.errors import ConfigError

DAY = timedelta(days=1)
GATEWAY = Role(duty=Duty.GATEWAY, job=JOB)
RULES, LIST, BROKER = "the broker's rules", "the revocation list", "the broker's certificate"


@pytest.fixture
def now() -> datetime:
    return utc_now()


def fleet_of(folder: Path, now: datetime) -> Fleet:
    return Fleet.create(folder / "fleet", "plant", ["gateway.local", "FD00::01"], now)


def test_a_new_fleet_gets_all_that_its_brokers_read_and_then_rests(
    tmp_path: Path, now: datetime
) -> None:
    with fleet_of(tmp_path, now) as fleet:
        assert keep_fresh(fleet, now) == (BROKER, RULES, LIST)
        assert keep_fresh(fleet, now) == ()
        for folder in (fleet.broker, fleet.enrolment):
            certificate = read_certificate(folder.identity)
            assert certificate.public_key() == read_service_key(folder.identity).public_key()
            assert folder.path.stat().st_mode & 0o777 == 0o700


def test_the_brokers_certificate_is_renewed_at_two_thirds_of_its_life(
    tmp_path: Path, now: datetime
) -> None:
    with fleet_of(tmp_path, now) as fleet:
        keep_fresh(fleet, now)
        first = read_certificate(fleet.broker.identity)
        assert BROKER not in keep_fresh(fleet, now + 240 * DAY)
        assert BROKER in keep_fresh(fleet, now + 245 * DAY)
        second = read_certificate(fleet.broker.identity)
        assert second.not_valid_after_utc - first.not_valid_after_utc == 245 * DAY
        assert second.public_key() != first.public_key()
        assert read_certificate(fleet.enrolment.identity) == second


def test_a_role_is_renewed_likewise_and_only_if_its_file_is_here(
    tmp_path: Path, now: datetime
) -> None:
    """The file of a process elsewhere was taken there, and is not made again."""
    elsewhere = Role(duty=Duty.DOCTOR)
    with fleet_of(tmp_path, now) as fleet:
        path = add_role(fleet, GATEWAY, now)
        add_role(fleet, elsewhere, now).unlink()
        first = path.read_bytes()
        done = keep_fresh(fleet, now + 245 * DAY)
        assert f"the certificate of gateway.{JOB}" in done
        assert "the certificate of doctor" not in done
        assert path.read_bytes() != first
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_change_of_the_hosts_renews_the_brokers_certificate(
    tmp_path: Path, now: datetime
) -> None:
    with fleet_of(tmp_path, now) as fleet:
        keep_fresh(fleet, now)
        config = replace(fleet.config, hosts=("new.example",))
        moved = replace(fleet, config=config)
        assert keep_fresh(moved, now) == (BROKER,)
        names = read_certificate(fleet.broker.identity).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert "new.example" in names.value.get_values_for_type(x509.DNSName)


def test_whatever_is_damaged_or_gone_is_written_again(tmp_path: Path, now: datetime) -> None:
    with fleet_of(tmp_path, now) as fleet:
        keep_fresh(fleet, now)
        fleet.broker.acl.write_text("topic readwrite #\n")
        assert keep_fresh(fleet, now) == (RULES,)
        assert "readwrite" not in fleet.broker.acl.read_text()
        fleet.broker.conf.unlink()
        assert keep_fresh(fleet, now) == (RULES,)
        fleet.broker.identity.write_bytes(b"half a fi")
        assert keep_fresh(fleet, now) == (BROKER,)
        (fleet.enrolment.path / "acl-strangers").write_bytes(b"\xff\xfe")
        assert keep_fresh(fleet, now) == (RULES,)


def test_a_clock_that_went_back_renews_what_has_not_begun(tmp_path: Path, now: datetime) -> None:
    with fleet_of(tmp_path, now + 400 * DAY) as fleet:
        keep_fresh(fleet, now + 400 * DAY)
        assert set(keep_fresh(fleet, now)) >= {BROKER, LIST}
        assert not is_due(read_certificate(fleet.broker.identity), now)


def test_a_running_broker_shows_its_new_certificate_and_keeps_its_connections(
    tmp_path: Path, mosquitto: str
) -> None:
    world = World(tmp_path / "fleet", utc_now() - 300 * DAY)
    keep_fresh(world.fleet, utc_now() - 300 * DAY)
    publish(world.fleet, utc_now())  # the list of that day lets nobody in any more
    device = world.device("cam-01")
    world.start()
    try:
        old = read_certificate(world.fleet.broker.identity)
        staying = world.connected(device)
        assert shown(world) in (old, None)
        assert BROKER in keep_fresh(world.fleet, utc_now())
        new = read_certificate(world.fleet.broker.identity)
        assert new != old
        for _ in range(500):
            if shown(world) == new:
                break
        else:
            pytest.fail("the broker still shows its old certificate")
        staying.settle()
        staying.drop()
        assert renew_broker(world.fleet, utc_now()) is True
    finally:
        world.close()


def shown(world: World) -> x509.Certificate | None:
    return shown_on(world.fleet.config.broker.port)


def test_a_log_that_strangers_have_filled_is_put_aside(tmp_path: Path, mosquitto: str) -> None:
    world = World(tmp_path / "fleet")
    world.refresh()
    world.start()
    folder = world.fleet.broker
    try:
        assert rotate_log(folder, at_bytes=10**9) is False
        kept = folder.log.read_bytes()
        assert rotate_log(folder, at_bytes=1) is True
        aside = folder.log.with_name("mosquitto.log.1")
        assert aside.read_bytes().startswith(kept)
        for _ in range(500):
            if folder.log.exists():
                break
            shown(world)  # takes a while
        else:
            pytest.fail("the broker goes on in the old file")
    finally:
        world.close()


def test_without_a_log_there_is_nothing_to_put_aside(tmp_path: Path) -> None:
    assert rotate_log(BrokerFolder(path=tmp_path), at_bytes=0) is False


def test_a_fleet_is_not_made_over_another(tmp_path: Path, now: datetime) -> None:
    fleet_of(tmp_path, now).close()
    with pytest.raises(ConfigError, match="there is a fleet already"):
        fleet_of(tmp_path, now)


def test_a_fleet_is_its_owners_alone(tmp_path: Path, now: datetime) -> None:
    (tmp_path / "fleet").mkdir(mode=0o755)
    with fleet_of(tmp_path, now) as fleet:
        assert fleet.folder.stat().st_mode & 0o777 == 0o700
        assert (fleet.folder / "fleet.db").stat().st_mode & 0o077 == 0


def test_a_folder_without_a_fleet_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fedsparse identity init"):
        Fleet.open(tmp_path)


def test_values_that_make_no_fleet_leave_nothing_behind(tmp_path: Path, now: datetime) -> None:
    with pytest.raises(ConfigError, match="neither a host name nor an address"):
        Fleet.create(tmp_path / "fleet", "plant", ["a host"], now)
    assert list(tmp_path.iterdir()) == []
