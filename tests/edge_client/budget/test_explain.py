"""`edge-client explain`: what a device decided last, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import profiles
from edge_client.budget.explain_table import lines
from edge_client.cli import main
from edge_client.config import ClientConfig, DataConfig
from tools.demo.toml_writer import to_toml

NOW = datetime(2027, 1, 1, 12, 0, tzinfo=timezone.utc)
MIB = 2**20


def row(level: float, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    document = {
        "level": level,
        "keeps_all": False,
        "engine": "sparse",
        "threads": 1,
        "micro_batch": 32,
        "dense_layers": [],
        "peak_bytes": 80 * MIB,
        "training_s": 4.0,
        "transfer_s": 0.5,
        "round_s": 6.5,
        "fits_memory": True,
        "fits_deadline": True,
        "spare": True,
    }
    return document | changes


def document(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    whole = {
        "version": 1,
        "decided": (NOW - timedelta(minutes=5)).isoformat(),
        "device": "press-1",
        "board": "Raspberry Pi 4",
        "emulated": False,
        "offer": {
            "job": "vibration", "round": 4, "attempt": 0, "stage": "train",
            "plan_digest": "ab" * 32, "levels": [0.2, 0.1, 0.05], "batch_size": 32, "epochs": 1,
            "deadline_s": 20.0,
        },
        "level": 0.1,
        "reason": "0.1: sparse, round 6.5 of 20.0 s, memory 80 of 110 MiB",
        "rows": [
            row(0.2, fits_memory=False, peak_bytes=150 * MIB, threads=4, micro_batch=8),
            row(0.1),
            row(0.05, round_s=2.0),
        ],
        "means": {
            "memory_bytes": 110 * MIB, "available_bytes": 168 * MIB, "memory_source": "cgroup v2",
            "memory_is_estimated": False, "agent_bytes": 26 * MIB, "deadline_s": 20.0,
            "speed_basis": "measured",
            "link": {"up_bytes_per_s": 250_000.0, "down_bytes_per_s": None, "basis": "measured"},
            "correction": {"time_factor": 1.8, "memory_factor": 1.0, "start_s": 2.0, "tasks": 3},
        },
        "budget": {
            "memory_fraction": 0.5, "memory_mib": None, "threads": 4, "engine": "auto",
            "headroom": 0.1, "raise_after": 3,
        },
        "heat": {"celsius": 71.4, "zone": "cpu", "throttled": True, "reasons": ["soft limit"]},
        "power": {"source": "battery", "battery_percent": 71},
        "policy": {
            "allows": True,
            "rulings": [{"rule": "battery", "allows": True, "because": "battery at 71 of 60 %"}],
        },
        "held": {"level": 0.1, "rising": None, "offers": 0, "broken": ""},
    }  # fmt: skip
    return whole | changes


def page(**changes: Any) -> str:  # noqa: ANN401
    return "\n".join(lines(document(**changes), NOW))


def test_a_page_has_a_row_a_level_and_ends_with_the_sentence() -> None:
    text = page()
    assert text.startswith(
        "press-1 (Raspberry Pi 4) on round 4 of job 'vibration', stage train, decided 5 minutes ago"
    )
    rows = [line.split() for line in text.splitlines()[3:6]]
    assert rows[0][:1] + rows[0][-5:] == ["0.2", "150", "6.5", "too", "much", "memory"]
    assert " ".join(rows[0][1:-5]) == "sparse, 4 threads, micro-batches of 8"
    assert rows[1] == [">", "0.1", "sparse", "80", "6.5", "taken"]
    assert rows[2] == ["0.05", "sparse", "80", "2.0", "fits"]
    assert text.endswith("0.1: sparse, round 6.5 of 20.0 s, memory 80 of 110 MiB")


@pytest.mark.parametrize(
    "line",
    [
        "memory      110 MiB for agent and trainer: 168 available (cgroup v2), "
        "memory_fraction 0.5; the agent has 26",
        "deadline    20.0 s, speed measured",
        "link        down unknown, up 250 kB/s (measured)",
        "corrections training x 1.80, memory x 1.00, start 2.0 s, tasks counted: 3",
        "heat        71.4 C, throttled now (soft limit)",
        "power       battery, 71 %",
        "policy      allowed (battery: battery at 71 of 60 %)",
        "held        0.1; up after 3 offers with 10 % to spare",
    ],
)
def test_a_page_says_what_the_forecasts_were_held_against(line: str) -> None:
    assert line in page().splitlines()


def test_what_is_unknown_is_called_so() -> None:
    nothing = {"celsius": None, "zone": None, "throttled": None, "reasons": []}
    text = page(heat=nothing, power={"source": None, "battery_percent": None})
    assert "heat        unknown, throttling unknown" in text
    assert "power       unknown" in text


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"fits_deadline": False}, "too slow"),
        ({"fits_deadline": False, "fits_memory": False}, "too much memory, too slow"),
        ({"spare": False}, "fits, waits for room to spare"),
        ({}, "fits, waits for more offers"),
    ],
)
def test_a_level_above_the_one_taken_says_why_not(changes: dict[str, bool], verdict: str) -> None:
    text = page(rows=[row(0.2, **changes), row(0.1)])
    assert text.splitlines()[3].endswith(verdict)


def test_a_declined_offer_marks_no_row() -> None:
    text = page(level=None, reason="declined by policy: ffmpeg runs")
    assert ">" not in text
    assert "fits, but the offer is declined" in text


def test_an_offer_that_was_declined_before_a_forecast_has_no_table() -> None:
    text = page(level=None, rows=[], means=None, held=None, reason="data.npz: no such file")
    assert "peak MiB" not in text
    assert text.endswith("data.npz: no such file")


def test_a_clock_that_has_jumped_gives_no_age() -> None:
    assert "decided at 1970-01-01T00:00:10+00:00" in page(decided="1970-01-01T00:00:10+00:00")
    assert "decided at 2028" in page(decided="2028-01-01T00:00:00+00:00")


def test_a_broken_promise_is_on_the_page() -> None:
    held = {"level": 0.05, "rising": 0.1, "offers": 2, "broken": "killed for memory at 0.1"}
    text = page(held=held)
    assert "held        0.05, 0.1 counted 2; up after 3" in text
    assert "broken      killed for memory at 0.1" in text


# The command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 6), np.float32), y=np.zeros(4, np.int64))
    client = ClientConfig(
        device="press-1",
        site="workshop",
        store=tmp_path / "store",
        data=DataConfig(path=tmp_path / "data.npz"),
        policy=tmp_path / "policy.toml",
    )
    (tmp_path / "policy.toml").write_text("", encoding="utf-8")
    (tmp_path / "client.toml").write_text(to_toml(client), encoding="utf-8")
    return tmp_path / "client.toml"


def decide(config: Path, text: str | None = None) -> None:
    store = config.parent / "store"
    store.mkdir()
    (store / "decision.json").write_text(text or json.dumps(document()), encoding="utf-8")


def test_without_an_offer_it_says_so_and_what_to_do(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(config)]) == 1
    text = capsys.readouterr().out
    assert "press-1 has decided nothing yet: no round was offered to it." in text
    assert "edge-client run" in text
    assert "'workshop'" in text
    assert not (config.parent / "store").exists()  # to look is to change nothing


def test_the_last_decision_is_shown_though_no_agent_runs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(config)
    assert main(["explain", str(config)]) == 0
    text = capsys.readouterr().out
    assert "> 0.1  sparse" in text
    assert "allows training now" in text
    assert "it has no rules" in text


def test_a_profile_of_ones_own_is_looked_for_beside_client_toml(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(config)
    profile = Path(profiles.__file__).parent / "raspberry-pi-4b-2gb.toml"
    mine = profile.read_text(encoding="utf-8").replace(profile.stem, "mine", 1)
    config.with_name("mine.toml").write_text(mine, encoding="utf-8")
    config.write_text('profile = "mine.toml"\n' + config.read_text(encoding="utf-8"))
    monkeypatch.chdir("/")
    assert main(["explain", str(config)]) == 0
    assert "> 0.1  sparse" in capsys.readouterr().out


def test_the_policy_is_judged_as_it_is_now(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(config)
    name = Path("/proc/self/comm").read_text().strip()
    config.with_name("policy.toml").write_text(f"[processes]\nforbid = ['{name}']\n")
    assert main(["explain", str(config)]) == 0
    text = capsys.readouterr().out
    assert "forbids training now" in text
    assert f"NO  processes: {name} runs" in text


def test_programs_get_a_document(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(config), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["decision"] is None
    decide(config)
    assert main(["explain", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decision"] == document()
    assert found["policy_now"] == {"allows": True, "rulings": []}


@pytest.mark.parametrize(
    "text", ["rubbish", "[]", "{}", '{"version": 7}', '{"version": 1}', "[" * 100_000]
)
def test_a_damaged_decision_is_an_error_with_a_way_out(
    config: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(config, text)
    assert main(["explain", str(config)]) == 2
    error = capsys.readouterr().err
    assert "decision.json: not a decision" in error
    assert "the next offer writes it anew" in error


def test_a_broken_policy_is_an_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("policy.toml").write_text("[hours]\nallow = ['9-5']\n")
    assert main(["explain", str(config)]) == 2
    assert "is written as 22:00-06:30" in capsys.readouterr().err


def test_it_needs_no_numpy(config: Path) -> None:
    decide(config)
    code = (
        "import sys; from edge_client.cli import main; "
        f"main(['explain', {str(config)!r}]); assert 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
