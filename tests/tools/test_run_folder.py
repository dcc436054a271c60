"""The output folder of a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsparse.errors import ConfigError
from tools.run_folder import clear_folder


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="choose another --output"):
        clear_folder(tmp_path, "demo")
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.touch()
    with pytest.raises(ConfigError, match="is a file"):
        clear_folder(path, "demo")


def test_an_earlier_run_is_cleared_away(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    clear_folder(output, "demo")
    (output / "checkpoint").touch()
    clear_folder(output, "demo")
    assert not (output / "checkpoint").exists()


def test_what_another_command_wrote_is_left_alone(tmp_path: Path) -> None:
    clear_folder(tmp_path / "out", "demo")
    with pytest.raises(ConfigError, match="no `fedsparse emulate` wrote"):
        clear_folder(tmp_path / "out", "emulate")
