"""Bytes in memory, in a file and one after the other are read alike."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.body import BLOCK_BYTES, NO_BODY, Body, Bytes, File, blocks_of, digest_of, joined

pieces = st.lists(st.binary(max_size=30), max_size=5)


def made(folder: Path, data: bytes) -> File:
    path = folder / "body"
    path.write_bytes(data)
    return File(path=path, size=len(data), digest=hashlib.sha256(data).hexdigest())


def every_kind(folder: Path, parts: list[bytes]) -> list[Body]:
    data = b"".join(parts)
    return [Bytes(data), Bytes(memoryview(data)), made(folder, data), joined(*map(Bytes, parts))]


@settings(max_examples=60, deadline=None)
@given(parts=pieces, offset=st.integers(0, 160), size=st.none() | st.integers(0, 160))
def test_every_body_reads_as_its_bytes_do(
    parts: list[bytes], offset: int, size: int | None
) -> None:
    data = b"".join(parts)
    with tempfile.TemporaryDirectory() as folder:
        for body in every_kind(Path(folder), parts):
            assert body.size == len(data)
            assert body.digest == digest_of(body) == hashlib.sha256(data).hexdigest()
            assert body.read() == data
            end = len(data) if size is None else offset + size
            assert body.read(offset, size) == data[offset:end]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])
def test_the_blocks_of_a_body_are_all_of_it(tmp_path: Path, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    blocks = list(blocks_of(made(tmp_path, data[:size])))
    assert b"".join(blocks) == data[:size]
    assert all(0 < len(block) <= BLOCK_BYTES for block in blocks)


def test_one_body_among_empty_ones_is_that_one() -> None:
    body = Bytes(b"abc")
    assert joined(NO_BODY, body, NO_BODY) is body
    assert joined().size == joined(NO_BODY).size == 0


@pytest.mark.parametrize("damage", [b"abcdefg", b"abcdefghi", b"abcdefgX", None])
def test_a_file_that_is_not_what_it_was_is_noticed(tmp_path: Path, damage: bytes | None) -> None:
    file = made(tmp_path, b"abcdefgh")
    assert file.verify()
    file.path.unlink()
    if damage is not None:
        file.path.write_bytes(damage)
    assert not file.verify()


def test_a_file_that_grew_is_read_as_far_as_it_was(tmp_path: Path) -> None:
    file = made(tmp_path, b"abcdefgh")
    file.path.write_bytes(b"abcdefgh and more")
    assert file.read() == b"abcdefgh"
    assert file.read(6, 10) == b"gh"


def test_a_file_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    file = made(tmp_path, b"abc")
    file.path.unlink()
    with pytest.raises(FileNotFoundError):
        file.read()


def test_bodies_in_memory_are_equal_where_their_bytes_are() -> None:
    assert Bytes(b"abc") == Bytes(memoryview(b"abc"))
    assert Bytes(b"abc") != Bytes(b"abd")
    assert Bytes(b"abc") != b"abc"
    assert len({Bytes(b"abc"), Bytes(b"abc")}) == 1
    assert repr(Bytes(b"abc")) == "Bytes(3 bytes)"
