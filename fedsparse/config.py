"""TOML files to frozen dataclasses: unknown keys are refused with the nearest known one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

from fedsparse.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML; the message names it.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a path or number of any length, deep nesting
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def load(kind: type[T], path: Path) -> T:
    """Read `path` into the dataclass `kind`; relative `Path` fields are taken from its folder."""
    return build(kind, read_toml(path), where=str(path), base=path.resolve().parent)


def build(kind: type[T], table: Mapping[str, Any], *, where: str, base: Path) -> T:
    """Build the dataclass `kind` from a parsed table.

    Args:
        kind: a dataclass; nested dataclasses are nested tables.
        table: the parsed keys.
        where: what to call the place in messages, such as ``job.toml [schedule]``.
        base: the folder from which relative paths are taken.

    Raises:
        ConfigError: an unknown, missing, mistyped or out-of-range key.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'{_suggest(key, list(fields))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], where=f"{where}: {name}", base=base)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: the key '{name}' is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _to_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ConfigError(f"{where}: expected a number, got too many digits") from error


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(known))}"


def _convert(hint: Any, value: Any, *, where: str, base: Path) -> Any:  # noqa: ANN401
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _convert(inner[0], value, where=where, base=base)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, one, where=where, base=base) for one in value)
    if origin is Mapping:  # taken as it is: whoever reads it knows its keys
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a table, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            keys = ", ".join(field.name for field in dataclasses.fields(hint))
            raise ConfigError(f"{where}: expected a table, got {value!r}; its keys are {keys}")
        return build(typing.cast("type[Any]", hint), value, where=where, base=base)
    if hint is Path:
        if not isinstance(value, str):
            raise ConfigError(f"{where}: expected a path, got {value!r}")
        return base / Path(value).expanduser()
    if hint is float and type(value) is int:
        return _to_float(value, where)
    if hint is str and isinstance(value, date | time):  # TOML has these without quotes
        raise ConfigError(f"{where}: expected str, got {value}; put it in quotes")
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value!r}")
    return value
