"""The kernels under GCC's sanitizers, on the engine's own tests; and that these see what is wrong.

The address sanitizer and the undefined behaviour one run together, the thread sanitizer alone.
torch is not there: the oracle answers from the tape.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_tests import HERE, ROOT, replay
from missing_tool import leave_out

from build_native import LIBRARY, NATIVE, compile_library

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # compiling them takes a minute

DEBUG = ("-O1", "-g", "-fno-omit-frame-pointer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanitized:
    """A copy of the device's packages whose kernels are watched.

    Attributes:
        packages: the folder of the copy.
        environment: what Python needs to load them.
    """

    packages: Path
    environment: Mapping[str, str]

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script on the copy."""
        searched = {"PYTHONPATH": f"{self.packages}{os.pathsep}{HERE}"}
        return subprocess.run(
            [sys.executable, "-c", script], cwd=self.packages, capture_output=True, text=True,
            check=False, env=os.environ | searched | dict(self.environment),
        )  # fmt: skip


def build(folder: Path, options: tuple[str, ...], runtime: str) -> Sanitized:
    """Compile the kernels with a sanitizer; `runtime` is its library, to be loaded first."""
    gcc = shutil.which("gcc")
    if gcc is None:
        leave_out("gcc is not installed: sudo apt-get install gcc libc6-dev")
    for package in ("edge_client", "fedsparse"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.so"))
    compile_library(ROOT, folder / NATIVE / LIBRARY, compiler=[gcc], options=[*DEBUG, *options])
    asked = [gcc, f"-print-file-name={runtime}"]
    library = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    environment = {
        "LD_PRELOAD": library,
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",  # they would be the interpreter's
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    return Sanitized(packages=folder, environment=environment)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Future[Sanitized], ...]]:
    """Both, compiled side by side."""
    undefined = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    memory, threads = (tmp_path_factory.mktemp(name) for name in ("memory", "threads"))
    with ThreadPoolExecutor() as pool:
        yield (
            pool.submit(build, memory, undefined, "libasan.so"),
            pool.submit(build, threads, ("-fsanitize=thread",), "libtsan.so"),
        )


@pytest.fixture
def watched_memory(builds: tuple[Future[Sanitized], ...]) -> Sanitized:
    return builds[0].result()


@pytest.fixture
def watched_threads(builds: tuple[Future[Sanitized], ...]) -> Sanitized:
    return builds[1].result()


def test_the_kernels_stay_within_their_buffers(watched_memory: Sanitized, tape: Path) -> None:
    ran = replay(
        tape, [sys.executable], watched_memory.packages, "-p", "strained_execution",
        "--guard-arenas", environment=watched_memory.environment,
    )  # fmt: skip
    assert ran > 100


def test_threads_that_share_a_call_never_meet(watched_threads: Sanitized, tape: Path) -> None:
    ran = replay(
        tape, [sys.executable], watched_threads.packages, "-p", "strained_execution",
        "--share-calls", environment=watched_threads.environment,
    )  # fmt: skip
    assert ran > 100


# One call of a kernel, over `count` values; there are SIZE.
SGD = """
import ctypes, threading
import numpy as np
from edge_client.runtime.native.library import Library
from edge_client.runtime.native.structures import Call, Sgd

library = Library()
SIZE = 4_000_000
values, gradient = np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32)
rate = ctypes.c_double(0.1)

def step(count):
    sgd = Sgd(count=count, learning_rate=ctypes.addressof(rate), value=values.ctypes.data,
              gradient=gradient.ctypes.data)
    call = Call(function=library.kernel("sgd"), arguments=ctypes.addressof(sgd), units=count,
                chunk=count)
    library.run(ctypes.addressof(call), 1, 1, None)
"""
# The same call, twice at one time.
TWICE = """
start = threading.Barrier(2)

def race():
    start.wait()
    step(SIZE)

threads = [threading.Thread(target=race) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
# One unit more than there is of a call in the middle of an arena.
ARENA = """
import numpy as np
import strained_execution
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import INPUT, Linear, Node, Plan, Relu
from fedsparse.types import Weights

strained_execution.guard_arenas()
layers = [("a", Linear(out_features=6), INPUT), ("b", Relu(), "a"),
          ("c", Linear(out_features=3), "b")]
nodes = tuple(Node(name=name, operator=layer, inputs=(before,)) for name, layer, before in layers)
plan = Plan(name="three", input_shape=(5,), nodes=nodes)
weights = Weights(prunable=np.ones(plan.num_prunable, np.float32),
                  dense=np.ones(plan.num_dense, np.float32))
engine = SparseEngine(plan, np.ones(plan.num_prunable, np.bool_), weights, batch_size=4)
engine._execution._infer[{call}].units += {more}
engine.logits(np.ones((4, 5), np.float32))
"""


@pytest.mark.parametrize(
    ("script", "report"),
    [
        (f"{SGD}\nstep(SIZE + 1)", "AddressSanitizer: heap-buffer-overflow"),
        (ARENA.format(call=-2, more=1), "AssertionError: written behind a buffer"),
        (ARENA.format(call=-2, more=100), "AddressSanitizer: (use-after-poison|unknown-crash)"),
        (f"{SGD}\nlibrary.index(None)", "runtime error: .*null pointer"),
    ],
)
def test_what_leaves_its_buffer_is_caught(
    watched_memory: Sanitized, script: str, report: str
) -> None:
    done = watched_memory.run(script)
    assert done.returncode != 0
    assert re.search(report, done.stderr), done.stderr[-3000:]


def test_the_deliberate_errors_are_all_that_is_wrong(
    watched_memory: Sanitized, watched_threads: Sanitized
) -> None:
    """The same scripts without their errors: nothing is reported that is not there."""
    once = f"{SGD}\nstep(SIZE)"
    for sanitized, script in ((watched_memory, once), (watched_threads, once),
                              (watched_memory, ARENA.format(call=-2, more=0))):  # fmt: skip
        done = sanitized.run(script)
        assert done.returncode == 0, done.stderr


def test_threads_that_meet_are_caught(watched_threads: Sanitized) -> None:
    done = watched_threads.run(SGD + TWICE)
    assert done.returncode != 0
    assert "ThreadSanitizer: data race" in done.stderr
