"""Build hook: compile the native kernels into `edge_client/runtime/native/`.

The system compiler is taken where there is one (`$CC`, else cc, gcc, clang); otherwise the
`ziglang` wheel, which is then a requirement of the build. The library is loaded with ctypes and
holds nothing of Python, so that one build serves every Python version of a platform.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("edge_client/runtime/native")
LIBRARY = "libfedsparse.so"
# Unlike the others, zig tunes for the processor at hand unless it is told not to.
ZIG = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
# No -ffast-math: linked by an old GCC it sets flush-to-zero for the whole process.
FLAGS = [
    "-std=c11",
    "-O3",
    "-s",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
]


def system_compiler() -> list[str] | None:
    """The command of the C compiler, or None where the machine has none."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return None


def compile_library(root: Path) -> Path:
    """Compile every C file of the native folder into one shared library."""
    compiler = system_compiler() or ZIG
    sources = sorted((root / NATIVE).glob("*.c"))
    library = root / NATIVE / LIBRARY
    fresh = library.with_suffix(f".{os.getpid()}.tmp")
    command = [*compiler, *FLAGS, *map(str, sources), "-o", str(fresh), "-lm"]
    try:
        subprocess.run(command, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"the native kernels did not compile: {shlex.join(command)}: {error}"
        raise SystemExit(message) from error
    fresh.replace(library)
    return library


class NativeBuildHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Compiles the kernels before the wheel (or the editable install) is put together."""

    def dependencies(self) -> list[str]:
        """`ziglang` is needed only where there is no compiler."""
        return [] if system_compiler() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Compile, and mark the wheel as belonging to this platform but to any Python 3."""
        if self.target_name != "wheel":
            return
        compile_library(Path(self.root))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
