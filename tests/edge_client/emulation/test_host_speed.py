"""This machine's speed: measured once, kept, measured again when it is another machine."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import HOST

from edge_client.emulation import host_speed as module
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.host_speed import FILE, HostSpeed, host_speed, measure
from edge_client.emulation.limits import largest_scale
from edge_client.emulation.measure_speed import RUN_S, speed
from edge_client.probe.measured import DENSITY
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.kernel_speed import BATCH, MICRO_BATCH
from fedsparse.boards import load_board
from fedsparse.plan.zoo import PLANS


def test_the_speed_is_the_geometric_mean_over_the_models() -> None:
    speed = measure(lambda: '{"a": 1e9, "b": 4e9}')
    assert speed.multiply_adds_per_s == pytest.approx(2e9)
    assert speed.models == {"a": 1e9, "b": 4e9}
    assert speed.basis == "measured"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": -1}', '{"a": 1}', '{"a": null}'])
def test_what_is_no_measurement_is_refused(text: str) -> None:
    with pytest.raises((EmulationError, TypeError), match=r"not measured|float"):
        measure(lambda: text)


def test_it_is_measured_once_and_again_when_the_machine_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    def run() -> str:
        runs.append(1)
        return f'{{"a": {len(runs)}e9}}'

    monkeypatch.setattr(module, "_run", run)
    assert host_speed(cache=tmp_path).multiply_adds_per_s == pytest.approx(1e9)
    assert host_speed(cache=tmp_path).multiply_adds_per_s == pytest.approx(1e9)
    assert host_speed(fresh=True, cache=tmp_path).multiply_adds_per_s == pytest.approx(2e9)
    document = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**document, "machine": "another"}))
    assert host_speed(cache=tmp_path).multiply_adds_per_s == pytest.approx(3e9)
    (tmp_path / FILE).write_text("damaged")
    assert host_speed(cache=tmp_path).multiply_adds_per_s == pytest.approx(4e9)


def test_of_many_who_want_it_at_once_one_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    begun = threading.Barrier(4)
    read = module._read

    def first_all_look(path: Path, key: str) -> HostSpeed | None:
        kept = read(path, key)
        if threading.current_thread() not in seen:
            seen.add(threading.current_thread())
            begun.wait()  # nobody measures before everybody has seen that nothing is kept
        return kept

    def run() -> str:
        runs.append(1)
        return '{"a": 1e9}'

    seen: set[threading.Thread] = set()
    monkeypatch.setattr(module, "_read", first_all_look)
    monkeypatch.setattr(module, "_run", run)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: host_speed(cache=tmp_path), range(4)))
    assert len(runs) == 1
    assert len({speed.multiply_adds_per_s for speed in found}) == 1


def test_nowhere_to_keep_it_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_run", lambda: '{"a": 1e9}')
    (tmp_path / "file").write_text("")
    assert host_speed(cache=tmp_path / "file" / "below").multiply_adds_per_s == pytest.approx(1e9)


def test_the_real_kernels_are_measured_in_a_process_of_their_own() -> None:
    speed = measure()
    assert set(speed.models) == {"mnist", "watch", "cifar10"}
    assert all(1e7 < figure < 1e12 for figure in speed.models.values())


def test_a_fleet_goes_as_fast_as_its_fastest_board_and_the_processors_allow() -> None:
    slow, fast = load_board("raspberry-pi-zero-2w"), load_board("raspberry-pi-5-8gb")
    speeds = [board.speed for board in (slow, fast)]
    shares = [speed.value / HOST.multiply_adds_per_s for speed in speeds if speed]
    many = largest_scale([slow] * 10, 2, HOST)
    assert many.factor == pytest.approx(2 / (10 * shares[0]))
    few = largest_scale([slow, fast], 2, HOST)
    assert few.factor == pytest.approx(min(2 / sum(shares), 1 / max(shares)))


def test_the_speed_is_the_best_of_several_runs_by_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = [0.0, RUN_S, 0.0, RUN_S / 2, RUN_S, 0.0, RUN_S]  # two steps in the second run
    monkeypatch.setattr(time, "process_time", iter(looks).__next__)
    plan = PLANS["mnist"]()
    kept = [round(DENSITY * tensor.size) for tensor in plan.prunable]
    work = sparse_cost(plan, kept, BATCH, setup=EngineSetup(micro_batch=MICRO_BATCH)).multiply_adds
    assert speed("mnist") == pytest.approx(2 * work / RUN_S)
