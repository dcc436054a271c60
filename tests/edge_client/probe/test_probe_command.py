"""`edge-client profile`: what a user runs on a device."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_groups import require_groups
from test_probe_measured import MEASURED

from edge_client.cli import main
from edge_client.config import ClientConfig, DataConfig
from edge_client.emulation.confine import confine
from edge_client.emulation.report import Resource
from edge_client.probe import command, measuring, storage
from edge_client.probe.link import LinkEstimate
from edge_client.probe.measured import Basis, Measurement
from fedsparse.transport.timing import Transfer
from tools.demo.toml_writer import to_toml

ROOT = Path(__file__).parents[3]
MIB = 2**20
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache/fedsparse/profile.json"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which a measurement was taken; it takes no time."""
    folders: list[Path] = []

    def take(basis: Basis, folder: Path, memory: int, _: object) -> Measurement:
        assert memory > 0
        folders.append(folder)
        measured = MEASURED.to_json()
        found = Measurement.from_json(measured)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        return Measurement(
            measured_at=now, basis=basis, kernel_speed=found.kernel_speed,
            bandwidth=found.bandwidth, writing=found.writing, unknown=(),
        )  # fmt: skip

    monkeypatch.setattr(command, "take_measurement", take)
    return folders


@pytest.fixture
def profile(cache: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; gives its exit code, its document and what it says."""

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = main(["profile", "--json", *arguments])
        text, said = capsys.readouterr()
        return code, json.loads(text) if text else {}, said

    return run


def client_toml(folder: Path, **changes: Any) -> Path:  # noqa: ANN401
    np.savez(folder / "data.npz", x=np.zeros((1, 6), np.float32), y=np.zeros(1, np.int64))
    data = DataConfig(path=folder / "data.npz")
    client = ClientConfig(device="d", site="s", store=folder / "store", data=data, **changes)
    (folder / "client.toml").write_text(to_toml(client), encoding="utf-8")
    return folder / "client.toml"


def test_figures_are_measured_once_and_then_kept(
    profile: Run, taken: list[Path], cache: Path, tmp_path: Path
) -> None:
    code, document, said = profile()
    assert (code, taken) == (0, [tmp_path])  # of the current folder
    assert document["origin"] == {"reused": False, "why": f"none was kept in {cache}"}
    assert "measuring, less than ten seconds: none was kept" in said
    code, again, said = profile()
    assert (code, taken) == (0, [tmp_path])
    assert again["origin"]["reused"]
    assert again["kernel_speed"] == document["kernel_speed"]
    assert again["measured_at"] == document["measured_at"]
    assert f"kept in {cache}" in said


def test_again_measures_whatever_is_kept(profile: Run, taken: list[Path]) -> None:
    profile()
    _, document, said = profile("--again")
    assert len(taken) == 2
    assert document["origin"] == {"reused": False, "why": "asked for with --again"}
    assert "asked for with --again" in said


def test_a_damaged_cache_is_measured_again_and_mended(
    profile: Run, taken: list[Path], cache: Path
) -> None:
    profile()
    cache.write_bytes(cache.read_bytes()[:50])
    _, _, said = profile()
    assert len(taken) == 2
    assert "is damaged or of another version" in said
    assert profile()[1]["origin"]["reused"]


def test_another_folder_is_another_storage(profile: Run, taken: list[Path], tmp_path: Path) -> None:
    profile()
    other = tmp_path / "other"
    other.mkdir()
    _, document, _ = profile("--path", str(other))
    assert taken == [tmp_path, other]
    assert document["origin"]["why"] == f"folder is {other}, was {tmp_path}"
    assert document["storage"]["path"] == str(other)


def test_heat_power_memory_and_free_room_are_read_anew(
    profile: Run, taken: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = profile()[1]
    monkeypatch.setattr("edge_client.probe.report.free_bytes", lambda _: 12345)
    after = profile()[1]
    assert after["origin"]["reused"]
    assert after["storage"]["free_bytes"] == 12345 != before["storage"]["free_bytes"]
    assert after["storage"]["write_bytes_per_s"] == before["storage"]["write_bytes_per_s"]


def test_a_device_keeps_its_figures_in_its_store_and_shows_its_transfers(
    profile: Run, taken: list[Path], tmp_path: Path, cache: Path
) -> None:
    config, store = client_toml(tmp_path), tmp_path / "store"
    store.mkdir()
    estimate = LinkEstimate().after(Transfer(sent=True, size_bytes=10**6, seconds=2.0))
    (store / "link.json").write_text(estimate.to_json())
    code, document, _ = profile(str(config))
    assert (code, taken) == (0, [store])
    assert document["storage"]["path"] == str(store)
    assert document["link"] == {
        "up_bytes_per_s": 500_000, "down_bytes_per_s": None, "transfers": 1,
    }  # fmt: skip
    assert not any(line.startswith("link:") for line in document["unknown"])
    assert (store / "profile.json").exists()
    assert not cache.exists()
    assert profile(str(config))[1]["origin"]["reused"]


def test_without_a_store_nobody_knows_of_transfers(
    profile: Run, taken: list[Path], tmp_path: Path
) -> None:
    [gap] = [line for line in profile()[1]["unknown"] if line.startswith("link:")]
    assert gap.endswith("name its client.toml")
    [gap] = [
        line
        for line in profile(str(client_toml(tmp_path)))[1]["unknown"]
        if line.startswith("link:")
    ]
    assert gap.endswith("no transfer that was large enough yet")


def test_a_store_that_does_not_exist_yet_is_made_as_the_agent_does(
    profile: Run, taken: list[Path], tmp_path: Path
) -> None:
    assert profile(str(client_toml(tmp_path)))[0] == 0
    assert (tmp_path / "store/profile.json").exists()


def test_a_board_that_stands_in_is_named_and_not_measured(
    profile: Run, taken: list[Path], tmp_path: Path
) -> None:
    config = client_toml(tmp_path, profile="raspberry-pi-zero-2w")
    _, document, said = profile(str(config))
    assert "lets the board 'raspberry-pi-zero-2w' stand in; this is the machine itself" in said
    assert document["board"]["model"] != "raspberry-pi-zero-2w"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path", "/nowhere"], "--path /nowhere: no such folder"),
        (["client.toml", "--path", "."], "not both"),
        (["missing.toml"], "missing.toml: no such file"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    profile: Run, taken: list[Path], arguments: list[str], message: str
) -> None:
    code, document, said = profile(*arguments)
    assert (code, document, taken) == (2, {}, [])
    assert message in said
    assert len(said.splitlines()) == 1


def test_where_nothing_can_be_kept_the_figures_are_shown(
    profile: Run, taken: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, document, said = profile()
    assert code == 0
    assert document["kernel_speed"]
    assert document["origin"]["why"].endswith("not kept")
    assert f"cannot be kept for the next time: {tmp_path / 'file'}" in said


def test_people_get_a_table(
    cache: Path, taken: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("board       ")
    assert "mnist" in text
    assert main(["profile"]) == 0
    assert "earlier: kept in" in " ".join(capsys.readouterr().out.split())


def test_all_measurements_together_fit_into_ten_seconds() -> None:
    limits = measuring.KERNELS_S + measuring.BANDWIDTH_S + storage.LIMIT_S
    assert limits <= 8.0  # the rest is for Python, which starts three times


def test_the_help_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["profile", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "measured again where something that they depend on has changed, or after 30" in text


def test_a_limited_process_measures_all_and_reports_the_limit(tmp_path: Path) -> None:
    with confine(memory=200 * MIB) as place:
        require_groups(place, Resource.MEMORY)
        kind = place.report().of(Resource.MEMORY).mechanism.value
        done = subprocess.run(
            place.command([sys.executable, "-m", "edge_client", "profile", "--json", "--again"]),
            capture_output=True, text=True, check=True, cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    document = json.loads(done.stdout)
    memory = document["memory"]
    assert (memory["total_bytes"], memory["source"]) == (200 * MIB, kind)
    assert memory["available_bytes"] < 200 * MIB
    assert len(document["kernel_speed"]) > 0
    assert document["memory_bandwidth"]["block_bytes"] * 2 < 200 * MIB / 4
    assert document["storage"]["write_bytes_per_s"] > 0
    assert "training kernels: mnist at density 0.1 (1 of 9)" in done.stderr
    assert (tmp_path / ".cache/fedsparse/profile.json").exists()


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_client", "profile", "--again"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    next(line for line in process.stderr if "(1 of 9)" in line)
    process.send_signal(signal.SIGINT)
    text, said = process.communicate()
    assert (process.returncode, text) == (130, "")
    assert said.splitlines()[-1] == "edge-client: interrupted; nothing was kept"
    assert "Traceback" not in said
    assert not (tmp_path / ".cache").exists()


def test_the_agent_starts_without_the_measurements() -> None:
    modules = "'edge_client.probe.command', 'edge_client.probe.measuring', 'statistics'"
    code = (
        "import sys, edge_client.agent.main, edge_client.cli;"
        f"sys.exit(bool({{{modules}}} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
