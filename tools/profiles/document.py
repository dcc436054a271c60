"""The document of `edge-client profile --json`, read with suspicion: it came over a wire."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from fedsparse.errors import ConfigError

FORMAT: Final = 1
COMMAND: Final = "edge-client profile --json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of the document; what is null, or is not there, is unknown.

    Attributes:
        where: what to call it in messages.
        values: its keys.
    """

    where: str
    values: Mapping[str, Any]

    def section(self, key: str) -> Section:
        """A nested table; an empty one where it is unknown."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self._refuse(key, "a table", value)
        return Section(where=f"{self.where}: {key}", values=value or {})

    def sections(self, key: str) -> Iterator[Section]:
        """A list of tables."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            self._refuse(key, "a list", value)
        for index, one in enumerate(value or ()):
            if not isinstance(one, dict):
                self._refuse(f"{key}[{index}]", "a table", one)
            yield Section(where=f"{self.where}: {key}[{index}]", values=one)

    def number(self, key: str) -> float | None:
        """A finite number."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._refuse(key, "a finite number", number)
        return number

    def text(self, key: str) -> str | None:
        """A text, on one line whatever was in it."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            self._refuse(key, "a text", value)
        return _one_line(value or "") or None

    def texts(self, key: str) -> list[str]:
        """A list of texts, each on one line."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            self._refuse(key, "a list", value)
        return [_one_line(one) for one in value or () if isinstance(one, str)]

    def flag(self, key: str) -> bool:
        """Whether it is true; unknown is not."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            self._refuse(key, "true or false", value)
        return bool(value)

    def _refuse(self, key: str, wanted: str, got: object) -> NoReturn:
        raise ConfigError(f"{self.where}: {key}: expected {wanted}, got {_short(got)}")


def parse_document(data: bytes, where: str) -> Section:
    """Parse what the probe printed.

    Args:
        data: UTF-8.
        where: what to call it in messages: a path, or `standard input`.

    Raises:
        ConfigError: it is empty, cut off, not JSON, or of another format.
    """
    if not data.strip():
        raise ConfigError(f"{where}: empty: did `{COMMAND}` fail on the board?")
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not the whole of a JSON document: {error.msg} (at line {error.lineno}, "
            f"column {error.colno}); it is what `{COMMAND}` prints on the board"
        ) from error
    except (ValueError, RecursionError) as error:  # no text, numbers of any length, deep nesting
        raise ConfigError(f"{where}: not a JSON document: {error}") from error
    if not isinstance(document, dict) or "format" not in document:
        raise ConfigError(f"{where}: not a document of `{COMMAND}`: it has no 'format'")
    if document["format"] != FORMAT or isinstance(document["format"], bool):
        raise ConfigError(
            f"{where}: format {_short(document['format'])}, and format {FORMAT} is read here: "
            "the board and this machine need the same release"
        )
    return Section(where=where, values=document)


def _one_line(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
