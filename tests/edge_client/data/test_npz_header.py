from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.data.header import count_samples
from fedsparse.errors import DataError


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("shape", [(7, 6, 100), (1, 1), (3,), (0, 4)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_count_is_what_numpy_wrote(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], save: object
) -> None:
    assert callable(save)
    x = np.asfortranarray(np.zeros(shape, dtype))
    save(tmp_path / "a.npz", x=x, y=np.zeros(shape[0]))
    assert count_samples(tmp_path / "a.npz") == (shape[0], shape[1:], np.dtype(dtype).str)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array(file, np.zeros((5, 2)), version=version)
    assert count_samples(path) == (5, (2,), "<f8")


def archive_with(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def npy(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("y.npy", npy("{}"), "no array 'x'"),
        ("x.npy", b"", "it is not a .npy array"),
        ("x.npy", b"\x93NUMPY", "it is not a .npy array"),
        ("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "a header of 2147483647 bytes"),
        ("x.npy", npy("{'shape': (3"), "damaged"),
        ("x.npy", npy("__import__('os')"), "damaged"),
        ("x.npy", npy("[1]"), "not a dictionary"),
        ("x.npy", npy("{'shape': (-1, 2), 'descr': '<f4'}"), r"shape \(-1, 2\)"),
        ("x.npy", npy("{'shape': 3, 'descr': '<f4'}"), "shape 3"),
        ("x.npy", npy("{'shape': (3,), 'descr': [('a', '<f4')]}"), "type"),
        ("x.npy", npy("{'shape': (), 'descr': '<f4'}"), "a single number"),
    ],
)
def test_a_bad_header_is_a_data_error(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        count_samples(archive_with(tmp_path, name, content))
    assert "a.npz" in str(caught.value)


def test_a_missing_file_and_a_file_of_another_kind_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        count_samples(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"label,value\n")
    with pytest.raises(DataError, match=r"not an \.npz archive"):
        count_samples(tmp_path / "a.npz")
    with pytest.raises(DataError, match="cannot be read"):
        count_samples(tmp_path)


@given(cut=st.integers(0, 400), byte=st.integers(0, 255))
def test_one_changed_byte_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("changed") / "a.npz"
    np.savez(path, x=np.zeros((4, 2)))
    content = bytearray(path.read_bytes())
    content[cut % len(content)] = byte
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        count, _, _ = count_samples(path)
        assert count >= 0
