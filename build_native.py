"""Build hook: compile the native kernels, for this machine or for others.

Installed from source, they are compiled by the system compiler where there is one (`$CC`, else cc,
gcc, clang); otherwise by the `ziglang` wheel, which is then a requirement of the build. An editable
install has them in `edge_client/runtime/native/`; a wheel gets them from `build/`, so that building
one never touches the checkout's own. The library is loaded with ctypes and holds nothing of Python:
one build serves every Python version of a platform.

`FEDSPARSE_WHEEL`, in the environment, names the platform of a wheel that is to run elsewhere
(`PLATFORMS`; `scripts/wheels` builds them all): zig then compiles against that platform's glibc.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("edge_client/runtime/native")
LIBRARY = "libfedsparse.so"
# Unlike the others, zig tunes for the processor at hand unless it is told not to.
ZIG = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
# What the kernels need of any compiler.
# No -ffast-math: linked by an old GCC it sets flush-to-zero for the whole process.
FLAGS = [
    "-std=c11",
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
RELEASE = ["-O3", "-s"]
# Platform tag of a wheel -> the compatibility tags that it carries, and zig's name of the target.
# manylinux2014 is glibc 2.17: Raspberry Pi OS, JetPack, and every other Linux of the last decade.
PLATFORMS = {
    f"manylinux2014_{machine}": (
        f"manylinux_2_17_{machine}.manylinux2014_{machine}",
        f"{machine}-linux-gnu.2.17",
    )
    for machine in ("x86_64", "aarch64")
}
NEEDS_64_BITS = (
    "fedsparse needs a 64-bit system, and this Python has 32 bits ({machine}): numpy has no wheels "
    "for it; install the board's 64-bit image (on a Raspberry Pi 3, 4, 5 or Zero 2: Raspberry Pi "
    "OS 64-bit) and its Python"
)


def system_compiler() -> list[str] | None:
    """The command of the C compiler, or None where the machine has none."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return None


def foreign_platform() -> str | None:
    """The platform that `FEDSPARSE_WHEEL` asks for; None where the build is for this machine."""
    name = os.environ.get("FEDSPARSE_WHEEL")
    if name and name not in PLATFORMS:
        raise SystemExit(f"FEDSPARSE_WHEEL={name}: it must be one of {', '.join(PLATFORMS)}")
    return name or None


def compile_library(
    root: Path,
    library: Path | None = None,
    *,
    compiler: Sequence[str] | None = None,
    options: Sequence[str] = RELEASE,
) -> Path:
    """Compile every C file of the native folder into one shared library.

    Args:
        root: the source tree.
        library: the file to write; by default the one that an editable install loads.
        compiler: its command; by default the one for this machine.
        options: what is asked for beside `FLAGS`.
    """
    sources = sorted((root / NATIVE).glob("*.c"))
    library = library or root / NATIVE / LIBRARY
    library.parent.mkdir(parents=True, exist_ok=True)
    fresh = library.with_suffix(f".{os.getpid()}.tmp")
    command = [*(compiler or system_compiler() or ZIG), *FLAGS, *options]
    command += [*map(str, sources), "-o", str(fresh), "-lm"]
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
        """`ziglang` is needed only for other machines, and where there is no compiler.

        A 32-bit system is refused here, before pip tries to compile numpy for it.
        """
        if sys.maxsize < 2**32:
            raise SystemExit(NEEDS_64_BITS.format(machine=platform.machine()))
        here = system_compiler() and not foreign_platform()
        return [] if here else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Compile, and mark the wheel as belonging to its platform but to any Python 3."""
        if self.target_name != "wheel":
            return
        root, foreign = Path(self.root), foreign_platform()
        build_data["pure_python"] = False
        if version == "editable":
            compile_library(root)
            build_data["tag"] = f"py3-none-linux_{platform.machine()}"
            return
        tags, compiler = f"linux_{platform.machine()}", None
        if foreign:
            tags, target = PLATFORMS[foreign]
            compiler = [*ZIG, "-target", target]
        build_data["tag"] = f"py3-none-{tags}"
        library = root / "build" / "native" / (foreign or "here") / LIBRARY
        compile_library(root, library, compiler=compiler)
        build_data["force_include"] = {str(library): str(NATIVE / LIBRARY)}
