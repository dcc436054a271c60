"""Loading the kernels: what is wrong is named, with the way out."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import pytest
from numpy.linalg import _umath_linalg

from edge_client.runtime.native import library, structures
from edge_client.runtime.native.library import LANES, LIBRARY, Library
from fedsparse.errors import EngineError


def test_a_missing_library_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"missing \(.*nothing.so\): .*pip install -e \."):
        Library(tmp_path / "nothing.so")


CONTENT = LIBRARY.read_bytes()
MACHINE = slice(18, 20)  # of the ELF header


def with_machine(number: int) -> bytes:
    return CONTENT[: MACHINE.start] + number.to_bytes(2, "little") + CONTENT[MACHINE.stop :]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it is no shared library"),
        (b"not a library" * 10, "it is no shared library"),
        (CONTENT[:63], "it is no shared library"),
        (CONTENT[:200], rf"it is cut off: 200 bytes of {len(CONTENT)}"),
        (CONTENT[: len(CONTENT) // 2], "it is cut off"),
        (CONTENT[:-1], "it is cut off"),
        (CONTENT[:64] + bytes(len(CONTENT) - 64), "corrupt.so: "),
        (with_machine(8), f"it was built for processor 8, this is {platform.machine()}"),
        (with_machine(40), f"it was built for armv7l, this is {platform.machine()}"),
    ],
    ids=range(9),
)
def test_a_corrupt_library_is_named_with_what_is_wrong_and_how_to_build_it(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "corrupt.so"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=rf"native kernels do not load.*{fault}.*pip install -e"):
        Library(path)


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ABI_VERSION", 999)
    with pytest.raises(EngineError, match="this code needs 999"):
        Library()


def test_a_foreign_library_is_refused() -> None:
    with pytest.raises(EngineError, match=r"fedsparse_abi_version.*pip install"):
        Library(Path(_umath_linalg.__file__))


def test_narrow_work_gets_narrow_vectors() -> None:
    loaded = Library()
    widest, narrowest = loaded.variants[0], loaded.variants[-1]
    assert loaded.kernel("product", LANES[widest]) == loaded.kernel("product")
    assert loaded.kernel("product", 1) == loaded.kernel("product", LANES[narrowest])
    assert narrowest == "base"


def test_the_argument_blocks_have_the_fields_of_the_header_in_its_order() -> None:
    header = (LIBRARY.parent / "operations.h").read_text()
    plain = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    blocks = {
        name: re.findall(r"(\w+)(?=\s*[,;])", body)
        for body, name in re.findall(r"typedef struct \{([^}]*)\} (\w+)_arguments;", plain)
    }
    kinds: list[type[ctypes.Structure]] = [*structures.ARGUMENTS.values(), structures.Index]
    declared = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): [f[0] for f in kind._fields_]
        for kind in kinds
    }
    assert blocks == declared


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have one variant")
def test_the_variants_are_those_that_the_kernel_says_this_processor_has() -> None:
    flags = set(re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[0].split())
    needed = {
        "avx512": {"avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"},
        "avx2": {"avx2", "fma"},
        "base": set(),
    }
    assert Library().variants == tuple(name for name, wants in needed.items() if wants <= flags)
