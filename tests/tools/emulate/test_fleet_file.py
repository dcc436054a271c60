"""Fleet files: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fleet_files import fleet_from, fleet_with

from edge_client.emulation.scale import TimeScale
from fedsparse.boards import Compute, load_board
from fedsparse.errors import ConfigError
from tools.demo.toml_writer import to_toml
from tools.emulate.devices import believed_board, check_known, devices_of_fleet, write_believed
from tools.emulate.fleet_file import load_fleet, matching

BOARD = 'board = "raspberry-pi-5-8gb"'


def test_devices_are_numbered_where_a_group_has_several(tmp_path: Path) -> None:
    assert fleet_from(tmp_path).devices == ("desk-1", "desk-2", "shelf")


def test_a_pattern_or_a_group_means_several_devices(tmp_path: Path) -> None:
    fleet = fleet_from(tmp_path)
    assert matching(fleet, "desk") == matching(fleet, "desk-*") == ("desk-1", "desk-2")
    assert matching(fleet, "*") == fleet.devices


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("raspberry-pi-5-8gb", "raspbery-pi-5-8gb", "did you mean .*raspberry-pi-5-8gb"),
        ("count = 2", "cuont = 2", "unknown key 'cuont'; did you mean 'count'"),
        ("count = 2", "count = 0", "count must be 1 to 200, got 0"),
        ("count = 2", "count = 1000", "count must be 1 to 200"),
        ("count = 2", "memory_mib = 3.0", "memory_mib 3 is absurd"),
        ("count = 2", "data_share = 1.5", r"share in \(0, 1\], got 1.5"),
        ("count = 2", "store_mib = 0.5", "store_mib must be 2 to 1024"),
        ("count = 2", 'policy = "night.toml"', "policy: there is no file .*night.toml"),
        ("count = 2", 'data = "mine.npz"', "data: there is no file"),
        ("count = 2", "link = { loss = 0.9 }", "loss is a share from 0 to 0.5"),
        ("count = 2", "link = { delay_s = 200.0 }", "are seconds: at most 60"),
        ("count = 2", "link = { rate = 5.0 }", "unknown key 'rate'"),
        ("count = 2", "link = { up_bytes_per_s = 0.0 }", "a link's rate is 1 byte"),
        ("count = 2", "link = { down_bytes_per_s = 0.0 }", "a link's rate is 1 byte"),
        ("count = 2", "link = { cut_every_s = 0.0 }", "cut_every_s must be positive, got 0"),
        ("rounds = 3", "rounds = 3\ntest_samples = 1", "test_samples must be at least 2, got 1"),
        ("count = 2", "link = { cut_every_s = 1.0, cut_for_s = 2.0 }", "leave no link between"),
        ("count = 2", "memory_fraction = 1.5", r"memory_fraction must be in \(0, 1\], got 1.5"),
        ("rounds = 3", "rounds = 3\nsamples = 1", "samples must be at least 2, got 1"),
        ('name = "shelf"', 'name = "desk-1"', "two devices are called 'desk-1'"),
        ("seed = 5", "seed = -1", "seed must be 0 to"),
        ("seed = 5", "time_scale = 0.0", "time_scale must be 0.001 to 1000"),
        ("seed = 5", 'figures = "guessed"', "figures must be profile or measured"),
        ("rounds = 3", "rounds = 0", "rounds must be 1 to 10000"),
        ("rounds = 3", 'rounds = 3\ndataset = "digit"', "did you mean 'digits'"),
        ("rounds = 3", "rounds = 3\nmin_devices = 9", "min_devices is 9, and there are 3"),
        ("deadline_s = 90.0", "", "the key 'deadline_s' is missing"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        fleet_with(tmp_path, old, new)
    assert "fleet.toml" in str(caught.value)


def test_boards_of_ones_own_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    device = devices_of_fleet(fleet_from(tmp_path))[2]
    path = Path(write_believed(device, TimeScale(factor=1.0), tmp_path / "boards"))
    fleet = fleet_with(tmp_path, BOARD, f'board = "boards/{path.name}"')
    assert fleet.group_of("shelf").board == str(path)


def test_a_client_takes_itself_for_its_board_in_the_scaled_time(tmp_path: Path) -> None:
    link = "link = { up_bytes_per_s = 1_000.0 }"
    fleet = fleet_with(tmp_path, BOARD, f"{BOARD}\nmemory_mib = 500.0\n{link}")
    device = devices_of_fleet(fleet)[2]
    board = load_board("raspberry-pi-5-8gb")
    path = write_believed(device, TimeScale(factor=4.0), tmp_path / "boards")
    believed = load_board(path)
    assert believed == believed_board(device, TimeScale(factor=4.0))
    speed, own = believed.compute.multiply_adds_per_s, device.figures()["multiply_adds_per_s"]
    assert speed is not None
    assert speed.value == pytest.approx(4 * own["value"])
    assert speed.basis == own["basis"] == "estimated"
    assert believed.memory.available_mib is not None
    assert believed.memory.available_mib.value == 500
    assert believed.network.up_bytes_per_s is not None
    assert believed.network.up_bytes_per_s.value == 4_000
    assert board.network.down_bytes_per_s is not None
    assert believed.network.down_bytes_per_s is not None
    assert believed.network.down_bytes_per_s.value == 4 * board.network.down_bytes_per_s.value


def test_groups_whose_boards_would_be_named_alike_have_files_of_their_own(tmp_path: Path) -> None:
    text = 'name = "{0}"\nboard = "raspberry-pi-5-8gb"\nmemory_mib = {1}\n'
    groups = "".join(f"[[groups]]\n{text.format(*one)}" for one in (("A", 100.0), ("a.", 200.0)))
    fleet = fleet_from(tmp_path, f'name = "two"\n{groups}[job]\nrounds = 1\ndeadline_s = 9.0\n')
    scale = TimeScale(factor=2.0)
    paths = [write_believed(one, scale, tmp_path / "b") for one in devices_of_fleet(fleet)]
    boards = [load_board(path) for path in paths]
    assert [one.memory.available_mib and one.memory.available_mib.value for one in boards] == [
        100, 200,
    ]  # fmt: skip
    assert write_believed(devices_of_fleet(fleet)[1], scale, tmp_path / "b") == paths[1]


def test_a_board_of_which_too_little_is_known_is_refused_with_the_way_out(tmp_path: Path) -> None:
    board = replace(load_board("raspberry-pi-5-8gb"), name="mystery", compute=Compute())
    (tmp_path / "mystery.toml").write_text(to_toml(board))
    fleet = fleet_with(tmp_path, BOARD, 'board = "mystery.toml"')
    with pytest.raises(ConfigError, match=r"mystery does not say how fast it trains; .*measured"):
        check_known(fleet)
    check_known(replace(fleet, figures="measured"))


def test_every_figure_has_its_basis(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, BOARD, f"{BOARD}\nlink = {{ up_bytes_per_s = 1_000.0 }}")
    figures = devices_of_fleet(fleet)[2].figures()
    assert figures["up_bytes_per_s"] == {"value": 1000.0, "basis": "fleet.toml"}
    assert figures["down_bytes_per_s"]["basis"] == "specified"
    assert figures["memory_bytes"]["basis"] == "estimated"
    zero = fleet_with(tmp_path, BOARD, 'board = "raspberry-pi-zero-2w"')
    unknown = devices_of_fleet(zero)[2].figures()["up_bytes_per_s"]
    assert unknown == {"value": None, "basis": "unknown"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: no such file"):
        load_fleet(tmp_path / "nowhere.toml")
