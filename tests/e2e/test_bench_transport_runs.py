"""The measurements of the transport with real processes: small ones, in which all counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench.transport.large_model import measure_large_model
from tools.bench.transport.load import LoadRequest, measure_load
from tools.bench.transport.round_bytes import measure_round_bytes
from tools.bench.transport.slow_link import SlowLinkRequest, measure_slow_link

pytestmark = pytest.mark.e2e


def test_clients_with_and_without_tls_are_all_counted_once(tmp_path: Path) -> None:
    request = LoadRequest(clients=12, processes=2, tls=4, rounds=3)
    result = measure_load(request, tmp_path, lambda what, share: None)
    assert result.exact
    assert result.updates == 36
    assert set(result.cpu_s) == {"broker", "aggregator", "clients"}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_large_body_passes_between_two_processes(tmp_path: Path, direction: str) -> None:
    result = measure_large_model(12_000_000, direction, tmp_path)
    assert result.holds, result


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_slow_link_is_cut_and_everything_comes(tmp_path: Path, direction: str) -> None:
    request = SlowLinkRequest(body_bytes=2_000_000, cut_every_bytes=1_500_000)
    result = measure_slow_link(request, direction, tmp_path, lambda share: None)
    assert result.whole
    assert result.cuts == 1
    assert result.control_wait_s <= 1.0
    assert result.resent_ratio <= 0.08  # a cut weighs more on so small a body


def test_a_round_takes_little_more_than_its_values(tmp_path: Path) -> None:
    result = measure_round_bytes(0.1, 2, tmp_path)
    assert result.ideal_bytes == 107_760
    assert 0 < result.overhead <= 0.03
