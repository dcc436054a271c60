"""Loading the native kernels."""

from __future__ import annotations

import ctypes
import functools
import platform
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_client.runtime.native.elf import library_fault
from edge_client.runtime.native.structures import ARGUMENTS
from fedsparse.errors import EngineError

ABI_VERSION: Final = 3  # of operations.h; abi.c says the same
LIBRARY: Final = Path(__file__).with_name("libfedsparse.so")
LANES: Final = {"avx512": 16, "avx2": 8, "base": 4}  # floats in a vector, widest first
REBUILD: Final = (
    "install fedsparse again with pip for this machine, or, in a checkout, run `pip install -e .`"
)

Address = int  # of a function or of memory


class Library:
    """The kernels, in every variant that this processor can run.

    Args:
        path: the shared library.
        variant: use this one alone; by default the widest that suits the work, up to the best.

    Raises:
        EngineError: the library is missing, corrupt, for another processor, or of another version.
    """

    def __init__(self, path: Path = LIBRARY, *, variant: str | None = None) -> None:
        if not path.is_file():
            raise EngineError(f"the native kernels are missing ({path}): {REBUILD}")
        try:
            fault = library_fault(path)
            if fault:
                raise EngineError(f"the native kernels do not load: {path}: {fault}: {REBUILD}")
            native = ctypes.CDLL(str(path))
            version = int(native.fedsparse_abi_version())
            if version != ABI_VERSION:
                raise EngineError(
                    f"{path} has ABI version {version}, this code needs {ABI_VERSION}: {REBUILD}"
                )
            self.variants = (variant,) if variant else _runnable(native)
            self._kernels: dict[str, dict[str, Address]] = {
                name: _kernels(native, name) for name in self.variants
            }
            pointer, integer = ctypes.c_void_p, ctypes.c_int64
            self.index: Callable[[Address], None] = _typed(native.fedsparse_index, pointer)
            self.run: Callable[[Address, int, int, Address | None], None] = _typed(
                native.fedsparse_run, pointer, integer, integer, pointer
            )
            self._new_team = _typed(native.fedsparse_team_new, ctypes.c_int32, result=pointer)
            self._free_team = _typed(native.fedsparse_team_free, pointer)
        except (OSError, AttributeError) as error:
            raise EngineError(
                f"the native kernels do not load on this {platform.machine()}: {error}: {REBUILD}"
            ) from error

    def kernel(self, name: str, length: int | None = None) -> Address:
        """The kernel in the widest variant whose vectors fit runs of `length` floats."""
        for variant in self.variants:
            if length is None or LANES[variant] <= length:
                return self._kernels[variant][name]
        return self._kernels[self.variants[-1]][name]

    def team(self, threads: int) -> Team | None:
        """The threads that help the caller to make `threads`; None for one.

        Raises:
            EngineError: the system refuses to start them.
        """
        if threads == 1:
            return None
        address = self._new_team(threads - 1)
        if not address:
            raise EngineError(f"the system refuses {threads} threads: set threads = 1")
        return Team(address, self._free_team)


class Team:
    """Threads of the native library; they end when the last reference to this goes."""

    def __init__(self, address: Address, free: Callable[[Address], None]) -> None:
        self.address = address
        self._finalizer = weakref.finalize(self, free, address)


def _runnable(native: ctypes.CDLL) -> tuple[str, ...]:
    """The variants of this processor, widest first."""
    native.fedsparse_best_variant.restype = ctypes.c_char_p
    names = list(LANES)
    best = native.fedsparse_best_variant().decode()
    return tuple(names[names.index(best) :])


def _kernels(native: ctypes.CDLL, variant: str) -> dict[str, Address]:
    names = {name: getattr(native, f"fedsparse_{name}_{variant}") for name in ARGUMENTS}
    return {
        name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in names.items()
    }


def _typed(function: Any, *arguments: type, result: type | None = None) -> Any:  # noqa: ANN401
    """A function of the library with its types (ctypes has no public type for one)."""
    function.argtypes, function.restype = arguments, result
    return function


@functools.cache
def load_library() -> Library:
    """The installed library, loaded once for each process."""
    return Library()
