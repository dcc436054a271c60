from __future__ import annotations

from pathlib import Path

from edge_client.probe.board import read_model


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
