"""The output folder of a command: emptied of what the same command left, never of anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedsparse.errors import ConfigError


def clear_folder(folder: Path, command: str) -> None:
    """An empty folder for a run; what an earlier run of the command left in it is removed.

    Args:
        folder: is created.
        command: `demo`, as in `fedsparse demo`.

    Raises:
        ConfigError: it holds files that the command did not write.
    """
    marker = folder / f".fedsparse-{command}"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose another --output")
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.exists():
            raise ConfigError(
                f"{folder} holds files that no `fedsparse {command}` wrote: choose another --output"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
