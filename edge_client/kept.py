"""Texts that a device keeps in its store: JSON objects, each with the version of its form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedsparse.errors import DataError


@contextmanager
def kept_document(
    text: str | bytes, what: str, version: int, *, key: str = "version"
) -> Iterator[Any]:
    """The object that an earlier run wrote; what does not fit, here or inside, is a `DataError`.

    Args:
        text: JSON, or something else that lies in its place.
        what: begins the message: `not a calibration, measure again`.
        version: of the form that is read inside.
        key: under which the object says its own.

    Raises:
        DataError: it is no such text.
    """
    try:
        document = json.loads(text)
        if document[key] != version:
            raise ValueError(f"{key} {document[key]!r}, this one reads {version}")
        yield document
    except (
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(f"{what}: {error!r}") from error
