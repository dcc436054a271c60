"""`fedsparse bench transport`: what its clients send, what it counts, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedsparse.errors import ConfigError
from tools.bench.transport import packets
from tools.bench.transport.faults import read_faults
from tools.bench.transport.load import LoadRequest, _result, _shares
from tools.bench.transport.load_job import LoadClient, load_plan, mean_of
from tools.bench.transport.load_result import LoadResult, LoadRound, slope
from tools.bench.transport.packets import Kind, PacketReader
from tools.bench.transport.result import LIMITS, headline, holds, read_parts
from tools.bench.transport.round_bytes import RoundBytes
from tools.bench.transport.slow_link import SlowLinkResult
from tools.cli import app

RUNNER = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
KEYS = {
    "overhead", "resent_ratio", "control_wait_s", "growth_mb", "clients", "updates_per_s", "lost",
    "duplicated", "rss_slope_mb", "fault_cells", "fault_failures", "frames_fuzzed",
}  # fmt: skip
COUNT = 40  # values of an update
CLIENTS = 3


def test_a_publish_is_read_as_it_was_written_however_it_is_cut() -> None:
    sent = [
        packets.publish(7, "a/b", bytes(size), retain=True) for size in (0, 1, 127, 128, 20_000)
    ]
    for step in (1, 2, 1000):
        reader, stream, found = PacketReader(), b"".join(sent), []
        for at in range(0, len(stream), step):
            found += reader.feed(stream[at : at + step])
        assert [one.kind for one in found] == [Kind.PUBLISH] * len(sent)
        parts = [packets.read_publish(one) for one in found]
        assert [len(payload) for _, _, payload in parts] == [0, 1, 127, 128, 20_000]
        assert {(topic, number) for topic, number, _ in parts} == {("a/b", 7)}


def test_a_payload_with_qos_0_has_no_packet_id() -> None:
    (packet,) = PacketReader().feed(b"\x30\x06\x00\x03a/bx")
    assert packets.read_publish(packet) == ("a/b", None, memoryview(b"x"))


def test_every_client_is_in_one_process_and_as_many_as_asked_for_have_tls() -> None:
    shares = _shares(LoadRequest(clients=1001, processes=4, tls=201))
    numbers = [number for first, count, _ in shares for number in range(first, first + count)]
    assert numbers == list(range(1001))
    assert sum(tls for _, _, tls in shares) == 201


def test_an_update_of_the_load_is_ten_kilobytes() -> None:
    plan = load_plan()
    assert 4 * (plan.kept(0.1) + plan.num_dense) == pytest.approx(10_000, rel=0.1)


def test_the_mean_is_weighted_by_examples() -> None:
    values = [LoadClient(one).values(2, COUNT) * LoadClient(one).num_examples for one in range(3)]
    assert np.allclose(mean_of(3, 2, COUNT), np.sum(values, axis=0) / (1 + 2 + 3), atol=1e-6)


def left_by_a_run(folder: Path, *, folded: int = CLIENTS, receipts: int = CLIENTS) -> LoadResult:
    """Of one round: what is read from what clients and aggregator wrote."""
    (folder / "job").mkdir(parents=True)
    (folder / "models").mkdir()
    entries = [
        {"device": f"load-{one:04}", "round": 1, "verdict": "accepted", "ours": True}
        for one in range(receipts)
    ]
    twice = [*entries, *entries]  # QoS 1 delivers a receipt again
    (folder / "receipts-0.jsonl").write_text("\n".join(map(json.dumps, twice)))
    closed = {"event": "round_closed", "round": 1, "updates": folded}
    (folder / "job/events.jsonl").write_text(json.dumps(closed) + "\n")
    mean_of(folded, 1, COUNT).tofile(folder / "models/2.f32")
    rounds = [LoadRound(number=1, sent_s=5.0, took_s=0.5, rss_mb=90.0, cpu_s={"broker": 0.1})]
    return _result(LoadRequest(clients=CLIENTS, tls=0, rounds=1), folder, rounds)


def test_a_round_in_which_every_update_counts_once(tmp_path: Path) -> None:
    result = left_by_a_run(tmp_path)
    assert result.exact
    assert (result.updates, result.updates_per_s) == (CLIENTS, CLIENTS / 0.5)


def test_an_update_that_was_not_folded_after_its_receipt_is_lost(tmp_path: Path) -> None:
    result = left_by_a_run(tmp_path, folded=CLIENTS - 1)
    assert (result.lost, result.duplicated, result.wrong_means) == (1, 0, (1,))
    assert not result.exact


def test_an_update_that_was_folded_twice_is_found(tmp_path: Path) -> None:
    result = left_by_a_run(tmp_path, folded=CLIENTS + 1)
    assert (result.lost, result.duplicated, result.wrong_means) == (0, 1, (1,))


def test_an_update_without_a_receipt_is_found(tmp_path: Path) -> None:
    result = left_by_a_run(tmp_path, receipts=CLIENTS - 1)
    assert result.unanswered == 1
    assert not result.exact


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([5, 6, 7, 8], [90.0, 92.0, 94.0, 96.0]) == pytest.approx(2.0)
    assert slope([5], [90.0]) == 0.0


def slow(
    direction: str, sent_bytes: int, waits_s: tuple[float, ...] = (0.2, 0.4)
) -> dict[str, Any]:
    return SlowLinkResult(
        direction=direction, body_bytes=1000, sent_bytes=sent_bytes, cuts=1, wall_s=1.0,
        waits_s=waits_s, whole=True,
    ).to_document()  # fmt: skip


def test_the_figures_are_the_worst_of_those_measured_and_none_of_what_was_not() -> None:
    one = RoundBytes(
        model="mnist", parameters=100, density=0.1, rounds=2, up_bytes=102.0, down_bytes=102.0,
        ideal_bytes=100,
    )  # fmt: skip
    parts = {
        "round-bytes": [one.to_document()],
        "slow-link": [slow("up", 1030), slow("down", 1040, (0.9,))],
    }
    found = headline(parts)
    assert set(found) == set(LIMITS) == KEYS
    assert found["overhead"] == pytest.approx(0.02)
    assert found["resent_ratio"] == pytest.approx(0.04)
    assert found["control_wait_s"] == 0.9
    assert found["growth_mb"] is None
    assert holds(parts) == {"round-bytes": True, "slow-link": True}


@pytest.mark.parametrize("row", [slow("up", 1051), slow("up", 1010, (0.1, 1.1)), slow("up", 1, ())])
def test_what_is_sent_twice_or_waits_too_long_does_not_hold(row: dict[str, Any]) -> None:
    assert holds({"slow-link": [slow("down", 1010), row]}) == {"slow-link": False}


def test_the_table_of_faults_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    assert read_faults(path) is None
    cells = [{"victim": "broker", "step": "offer", "ok": True}] * 60
    path.write_text(json.dumps({"cells": cells}))
    assert read_faults(path) == {"cells": 60, "failures": [], "holds": True}
    path.write_text(json.dumps({"cells": [*cells, {**cells[0], "ok": False}]}))
    assert read_faults(path) == {"cells": 61, "failures": ["broker at offer"], "holds": False}


def test_a_file_that_is_no_table_of_faults_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text("[]")
    with pytest.raises(ConfigError, match=r"faults\.json"):
        read_faults(path)


def test_results_of_something_else_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "transport.json"
    assert read_parts(path) == {}
    path.write_text("{}")
    with pytest.raises(ConfigError, match="--output"):
        read_parts(path)


def test_one_part_is_measured_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "transport.json"
    path.write_text(json.dumps({"parts": {"slow-link": [slow("up", 1030)], "gone": 1}}))
    options = ["--part", "fuzz", "--quick", "--output", str(path), "--json", "--strict"]
    result = RUNNER.invoke(app, ["bench", "transport", *options])
    assert result.exit_code == 0, result.output
    document = json.loads(path.read_text())
    assert set(document["parts"]) == {"slow-link", "fuzz"}
    assert document["resent_ratio"] == pytest.approx(0.03)
    assert document["frames_fuzzed"] >= 6000
    assert set(document) >= KEYS


def test_more_clients_with_tls_than_clients_are_refused() -> None:
    result = RUNNER.invoke(app, ["bench", "transport", "--clients", "10", "--tls", "11"])
    assert result.exit_code == 2
    assert "--tls" in result.output
