"""Configuration dataclasses back to TOML, so that the demo's files can be read and reused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

EXACT: Final = 2**53  # up to here, every whole number is a float


def to_toml(config: Any) -> str:  # noqa: ANN401 - any configuration dataclass
    """The TOML text from which `fedsparse.config.load` rebuilds `config`.

    A nested dataclass becomes a table, None is left out, a path becomes absolute.
    """
    return "\n".join(_table(config, name="")).lstrip("\n") + "\n"


def _table(config: Any, name: str) -> list[str]:  # noqa: ANN401
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    lines = [f"\n[{name}]"] if name else []
    nested: list[str] = []
    for key, value in values.items():
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            nested += _table(value, name=f"{name}.{key}" if name else key)
        else:
            lines.append(f"{key} = {_value(value)}")
    return nested if nested and len(lines) == 1 and name else lines + nested


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return f"{int(value):_}"  # a float again where one is expected
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Path):
        return _text(str(value.resolve()))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"no TOML for {value!r}")


def _text(text: str) -> str:
    """A basic string: TOML's escapes are JSON's, except that it also escapes DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
