"""The fleets and scenarios that ship with the package, and any other by its path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

from fedsparse.config import read_toml
from fedsparse.errors import ConfigError
from tools.emulate.near import near

PACKAGE: Final = "tools.emulate"
SUFFIX: Final = ".toml"
FLEETS: Final = "fleets"
SCENARIOS: Final = "scenarios"


def shipped(kind: str) -> dict[str, str]:
    """Name -> title of what ships; `kind` is `FLEETS` or `SCENARIOS`."""
    found: dict[str, str] = {}
    with resources.as_file(resources.files(PACKAGE) / kind) as folder:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            table: dict[str, Any] = read_toml(path)
            found[path.stem] = str(table.get("title", ""))
    return found


@contextmanager
def found_file(kind: str, name_or_path: str) -> Iterator[Path]:
    """The file that a name or a path means.

    Raises:
        ConfigError: nothing of that name ships; the nearest is given.
    """
    if name_or_path.endswith(SUFFIX) or "/" in name_or_path:
        yield Path(name_or_path)
        return
    known = shipped(kind)
    if name_or_path not in known:
        raise ConfigError(
            f"no {kind.removesuffix('s')} '{name_or_path}' ships (a file's path ends with {SUFFIX})"
            f"{near(name_or_path, known)}"
        )
    with resources.as_file(resources.files(PACKAGE) / kind / f"{name_or_path}{SUFFIX}") as path:
        yield path
