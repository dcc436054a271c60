"""The plugin, in pytest runs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLUGIN = "edge_client.emulation.plugin"
HEADER = """
import sys
import pytest
from edge_client.emulation.host_speed import given_speed
from edge_client.emulation.report import Mechanism

GROUPS = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
TAKE = "block = bytearray(10**9); block[::4096] = b'x' * len(block[::4096])"
"""


def run_pytest(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a test file, as somebody does who has the package installed."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "test_theirs.py").write_text(HEADER + text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider",
         "--strict-markers", "-q", *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=False, capture_output=True, text=True,
    )  # fmt: skip


def test_a_test_gets_a_board_and_what_a_command_took(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
@pytest.mark.device("raspberry-pi-zero-2w", cpu=0.5, scale=2)
def test_it(device):
    assert device.board.title == "Raspberry Pi Zero 2 W"
    outcome = device.run([sys.executable, "-c", "print(input())"], input="hello\\n", timeout_s=60)
    assert (outcome.exit_code, outcome.stdout) == (0, "hello\\n")
    assert outcome.seconds == pytest.approx(2 * outcome.host_seconds)
    assert outcome.peak_memory_bytes > 10**6
    assert outcome.report.board == "raspberry-pi-zero-2w"
    assert {one.resource.value for one in outcome.report.applied} == {"memory", "cpu", "link"}
""")  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


def test_a_command_past_the_boards_memory_does_not_get_it(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
@pytest.mark.device("raspberry-pi-zero-2w", cpu=None)
def test_it(device):
    outcome = device.run([sys.executable, "-c", TAKE])
    assert outcome.exit_code != 0
    assert outcome.killed_for_memory in (True, None)
""")  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


def test_a_mechanism_that_is_required_and_missing_fails_the_test_and_says_why(
    tmp_path: Path,
) -> None:
    done = run_pytest(tmp_path, """
@pytest.mark.device("raspberry-pi-zero-2w", cpu=0.5, require="cgroup", avoid=GROUPS)
def test_it(device):
    pass
""")  # fmt: skip
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert 'require="cgroup" is not met on this machine' in done.stdout
    assert "cgroup v1: was not to be used" in done.stdout


def test_an_unknown_board_is_an_error_of_collection_with_near_names(tmp_path: Path) -> None:
    text = """
@pytest.mark.device("raspberry-pi-zero-2")
def test_it(device):
    pass
"""
    for arguments in ((), ("-n", "2")):
        done = run_pytest(tmp_path, text, *arguments)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        assert "1 error in" in said
        assert "Traceback" not in said
        assert "test_theirs.py::test_it" in said
        assert "did you mean 'raspberry-pi-zero-2w'?" in said


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ('@pytest.mark.device("raspberry-pi-5-8gb", require="magic")', "take one of cgroup"),
        ('@pytest.mark.device("raspberry-pi-5-8gb", scale=0)', "time scale"),
        ('@pytest.mark.device("raspberry-pi-5-8gb", colour="red")', "unexpected keyword"),
        ("@pytest.mark.device", "missing 1 required"),
    ],
)
def test_a_mark_that_cannot_be_is_an_error_of_collection(
    tmp_path: Path, mark: str, said: str
) -> None:
    done = run_pytest(tmp_path, f"\n{mark}\ndef test_it(device):\n    pass\n")
    assert done.returncode == 2, done.stdout
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_board_that_only_one_parameter_names_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
BOARDS = ["raspberry-pi-5-8gb", "raspberry-pi-6"]

@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.device(one, cpu=0.5)) for one in BOARDS]
)
def test_it(device, name):
    assert device.board.name == name

def test_without(device):
    pass
""")  # fmt: skip
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "unknown board 'raspberry-pi-6'" in done.stdout
    assert "needs to know the board" in done.stdout


def test_a_mark_without_the_fixture_would_do_nothing_and_is_an_error(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
@pytest.mark.device("raspberry-pi-5-8gb")
def test_it():
    pass
""")  # fmt: skip
    assert done.returncode == 2
    assert "take it as an argument" in done.stdout + done.stderr


def test_projects_with_a_fixture_and_a_mark_of_that_name_are_left_alone(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
@pytest.fixture
def device():
    return "cuda"

@pytest.mark.device("cuda:0")
def test_it(device):
    assert device == "cuda"

@pytest.mark.device("cuda:0")
def test_other():
    pass

def test_plain(device):
    assert device == "cuda"
""")  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout


def test_workers_side_by_side_have_places_of_their_own(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
@pytest.mark.device("raspberry-pi-zero-2w", cpu=0.4)
@pytest.mark.parametrize("number", range(4))
def test_it(device, number):
    assert device.run([sys.executable, "-c", f"print({number})"]).stdout == f"{number}\\n"
""", "-n", "2")  # fmt: skip
    assert "4 passed" in done.stdout, done.stdout


def test_it_costs_nothing_where_nobody_uses_it(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, """
def test_it():
    ours = [name for name in sys.modules if name.split(".")[0] in ("edge_client", "fedsparse")]
    assert "numpy" not in sys.modules
    assert set(ours) <= ALLOWED
""".replace("ALLOWED", repr({"edge_client", "edge_client.emulation", PLUGIN})))  # fmt: skip
    assert "1 failed" in done.stdout  # the header of these files imports more
    (tmp_path / "test_theirs.py").write_text(
        (tmp_path / "test_theirs.py").read_text().replace(HEADER, "import sys\n")
    )
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "1 passed" in again.stdout, again.stdout
