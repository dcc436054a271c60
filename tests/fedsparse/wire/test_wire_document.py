"""docs/wire.md names every field, key, limit and golden file that the code has."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from fedsparse.wire.frame import CHUNK_BYTES, SHA256, SIZE
from fedsparse.wire.headers import KEYS, KINDS
from fedsparse.wire.transfer import CRC

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")


def documented() -> set[tuple[str, str]]:
    """(field, key) of every row of every table."""
    pairs = set()
    for row in re.findall(r"^\|(.+)\|$", DOCUMENT, re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        for names, keys in itertools.pairwise(cells):
            if re.fullmatch(r"`\w+`(, `\w+`)*", keys):
                pairs |= set(zip(names.split(", "), re.findall(r"`(\w+)`", keys), strict=False))
    return pairs


@pytest.mark.parametrize(("field", "key"), [*KEYS.items()])
def test_every_field_is_documented_with_its_key(field: str, key: str) -> None:
    assert (field, key) in documented()


@pytest.mark.parametrize("key", [SHA256, SIZE, CHUNK_BYTES])
def test_every_key_of_a_head_is_documented(key: str) -> None:
    assert re.search(rf"^\| `{key}` \|", DOCUMENT, re.MULTILINE)


def test_the_key_of_a_chunk_is_documented() -> None:
    assert f"the key `{CRC}`, the CRC-32" in DOCUMENT


def test_every_kind_is_documented() -> None:
    for number, kind in KINDS.items():
        assert f"**{kind.__name__}**, kind {number}" in DOCUMENT


def test_every_golden_file_is_named() -> None:
    for path in (ROOT / "tests" / "golden" / "wire").iterdir():
        assert f"`{path.stem}`" in DOCUMENT
