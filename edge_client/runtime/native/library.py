"""Loading the native kernels."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_client.runtime.native.structures import ARGUMENTS
from fedsparse.errors import EngineError

ABI_VERSION: Final = 1  # of operations.h; abi.c says the same
LIBRARY: Final = Path(__file__).with_name("libfedsparse.so")
LANES: Final = {"avx512": 16, "avx2": 8, "base": 4}  # floats in a vector, widest first
REBUILD: Final = (
    "install fedsparse again with pip for this machine, or, in a checkout, run `pip install -e .`"
)

Kernel = Callable[[int, int], None]  # (address of the arguments, batch)


class Library:
    """The kernels, in every variant that this processor can run.

    Args:
        path: the shared library.
        variant: use this one alone; by default the widest that suits the work, up to the best.

    Raises:
        EngineError: the library is missing, corrupt, or of another version.
    """

    def __init__(self, path: Path = LIBRARY, *, variant: str | None = None) -> None:
        if not path.is_file():
            raise EngineError(f"the native kernels are missing ({path}): {REBUILD}")
        try:
            native = ctypes.CDLL(str(path))
            version = int(native.fedsparse_abi_version())
            if version != ABI_VERSION:
                raise EngineError(
                    f"{path} has ABI version {version}, this code needs {ABI_VERSION}: {REBUILD}"
                )
            self.variants = (variant,) if variant else _runnable(native)
            self._kernels: dict[str, dict[str, Kernel]] = {
                name: _kernels(native, name) for name in self.variants
            }
            native.fedsparse_index.argtypes = [ctypes.c_void_p]
            native.fedsparse_index.restype = None
            self.index: Callable[[int], None] = native.fedsparse_index
        except (OSError, AttributeError) as error:
            raise EngineError(
                f"the native kernels do not load on this {platform.machine()}: {error}: {REBUILD}"
            ) from error

    def kernel(self, name: str, length: int | None = None) -> Kernel:
        """The kernel in the widest variant whose vectors fit runs of `length` floats."""
        for variant in self.variants:
            if length is None or LANES[variant] <= length:
                return self._kernels[variant][name]
        return self._kernels[self.variants[-1]][name]


def _runnable(native: ctypes.CDLL) -> tuple[str, ...]:
    """The variants of this processor, widest first."""
    native.fedsparse_best_variant.restype = ctypes.c_char_p
    names = list(LANES)
    best = native.fedsparse_best_variant().decode()
    return tuple(names[names.index(best) :])


def _kernels(native: ctypes.CDLL, variant: str) -> dict[str, Kernel]:
    return {name: _typed(getattr(native, f"fedsparse_{name}_{variant}")) for name in ARGUMENTS}


def _typed(function: Any) -> Kernel:  # noqa: ANN401  (ctypes has no public type for it)
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    kernel: Kernel = function
    return kernel


@functools.cache
def load_library() -> Library:
    """The installed library, loaded once for each process."""
    return Library()
