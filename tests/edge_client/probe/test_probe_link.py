from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, builds, floats, integers, lists

from edge_client.probe.link import KEPT, LEAST_BYTES, LinkEstimate, LinkLog, read_link
from fedsparse.errors import DataError
from fedsparse.transport.timing import Transfer

TRANSFERS = builds(
    Transfer,
    sent=booleans(),
    size_bytes=integers(-(2**70), 2**70),
    seconds=floats(allow_nan=True, allow_infinity=True),
)


def sent(size_bytes: int, seconds: float) -> Transfer:
    return Transfer(sent=True, size_bytes=size_bytes, seconds=seconds)


def after(*transfers: Transfer) -> LinkEstimate:
    estimate = LinkEstimate()
    for transfer in transfers:
        estimate = estimate.after(transfer)
    return estimate


def test_at_first_nothing_is_known() -> None:
    estimate = LinkEstimate()
    assert (estimate.up_bytes_per_s, estimate.down_bytes_per_s, estimate.transfers) == (
        None, None, 0,
    )  # fmt: skip


def test_each_way_has_its_own_rate() -> None:
    down = Transfer(sent=False, size_bytes=4_000_000, seconds=2.0)
    estimate = after(sent(1_000_000, 2.0), down)
    assert (estimate.up_bytes_per_s, estimate.down_bytes_per_s) == (500_000, 2_000_000)
    assert estimate.transfers == 2


def test_one_stalled_transfer_does_not_move_the_rate() -> None:
    usual = [sent(100_000, 0.1)] * 4
    assert after(*usual, sent(100_000, 900.0), *usual).up_bytes_per_s == pytest.approx(1e6)


def test_a_link_that_has_changed_is_believed_after_half_of_what_is_kept() -> None:
    before = [sent(100_000, 0.1)] * 50
    slower = [sent(100_000, 1.0)] * (KEPT // 2 + 1)
    assert after(*before, *slower).up_bytes_per_s == pytest.approx(1e5)
    assert after(*before, *slower[1:]).up_bytes_per_s == pytest.approx(1e6)


@pytest.mark.parametrize(
    "transfer",
    [
        sent(LEAST_BYTES - 1, 0.1),  # the way there and back would be measured
        sent(100_000, 0.0),
        sent(100_000, -1.0),
        sent(100_000, float("nan")),
        sent(100_000, float("inf")),
        sent(10**18, 1.0),
    ],
)
def test_a_transfer_that_says_nothing_changes_nothing(transfer: Transfer) -> None:
    assert LinkEstimate().after(transfer) == LinkEstimate()


@given(lists(TRANSFERS, max_size=30))
def test_whatever_is_fed_the_rates_are_unknown_or_positive_and_survive_the_disk(
    transfers: list[Transfer],
) -> None:
    estimate = after(*transfers)
    for rate in (estimate.up_bytes_per_s, estimate.down_bytes_per_s):
        assert rate is None or 0 < rate <= 1e11
    assert estimate.transfers <= 2 * KEPT
    assert LinkEstimate.from_json(estimate.to_json()) == estimate


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[1]", '{"format": 2, "up": [], "down": []}',
        '{"format": 1, "up": [0], "down": []}', '{"format": 1, "up": [-5.0], "down": []}',
        '{"format": 1, "up": ["x"], "down": []}', '{"format": 1, "up": 3, "down": []}',
        json.dumps({"format": 1, "up": [1.0] * 100, "down": []}), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_file_is_no_knowledge_and_no_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "link.json"
    path.write_text(text)
    with pytest.raises(DataError):
        LinkEstimate.from_json(text)
    assert read_link(path) == LinkEstimate()


def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    LinkLog(path).record(sent(100_000, 0.1))
    again = LinkLog(path)
    again.record(sent(100_000, 0.4))
    assert LinkLog(path).estimate.up == (pytest.approx(1e6), pytest.approx(2.5e5))


def test_what_says_nothing_is_not_written(tmp_path: Path) -> None:
    LinkLog(tmp_path / "link.json").record(sent(10, 0.1))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_does_not_stop_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    log = LinkLog(tmp_path / "file" / "link.json")
    log.record(sent(100_000, 0.1))
    assert log.estimate.up_bytes_per_s == pytest.approx(1e6)
    assert "link=not_kept" in caplog.text
