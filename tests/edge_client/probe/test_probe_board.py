from __future__ import annotations

from pathlib import Path

import pytest
from machines import jetson_orin_nano, laptop, nothing, pi_5

from edge_client.probe import board
from edge_client.probe.board import read_board, read_model


def write(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def test_the_device_tree_names_a_board_without_its_terminator(tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", b"Raspberry Pi 4 Model B Rev 1.4\x00")
    write(tmp_path, "sys/class/dmi/id/product_name", b"Something else\n")
    assert read_model(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4"


def test_the_dmi_product_names_a_computer(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/dmi/id/product_name", b"ThinkCentre \xff M90\n")
    assert read_model(tmp_path) == "ThinkCentre  M90"


def test_an_empty_name_is_skipped_and_a_long_one_is_cut(tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", b"\x00")
    write(tmp_path, "sys/class/dmi/id/product_name", b"x" * 5000)
    assert read_model(tmp_path) == "x" * 64


def test_a_machine_without_a_name_is_unknown(tmp_path: Path) -> None:
    assert read_model(tmp_path) == "unknown"


def test_a_reading_says_who_named_the_board(tmp_path: Path) -> None:
    pi = read_board(pi_5(tmp_path / "pi"))
    assert (pi.model, pi.source) == ("Raspberry Pi 5 Model B Rev 1.0", "device tree")
    assert (pi.jetson_release, pi.emulated, pi.unknown) == (None, False, ())
    assert read_board(laptop(tmp_path / "laptop")).source == "DMI"


def test_a_jetson_has_a_release(tmp_path: Path) -> None:
    assert read_board(jetson_orin_nano(tmp_path)).jetson_release == "R36.4.3"


@pytest.mark.parametrize("text", [None, "", "# R36 REVISION 4", "# Rx (release), REVISION: y"])
def test_a_jetson_that_does_not_name_its_release_is_unknown(
    tmp_path: Path, text: str | None
) -> None:
    path = jetson_orin_nano(tmp_path) / "etc/nv_tegra_release"
    path.unlink()
    if text is not None:
        path.write_text(text)
    reading = read_board(tmp_path)
    assert reading.jetson_release is None
    assert any(line.startswith("Jetson release:") for line in reading.unknown)


def test_a_machine_that_nobody_names_is_unknown_and_says_so(tmp_path: Path) -> None:
    reading = read_board(nothing(tmp_path))
    assert (reading.model, reading.source) == (None, None)
    assert reading.unknown == ("board: neither a device tree nor DMI names it",)


def test_a_processor_that_a_program_plays_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board.platform, "machine", lambda: "aarch64")
    write(pi_5(tmp_path), "proc/sys/kernel/arch", b"x86_64\n")
    assert read_board(tmp_path).emulated
