"""How much more address space than memory a process that trains takes, as measured here."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Final

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.own_module import own_environment

# A trainer's libraries, and one thread beside the first: its stack and its heap are reserved.
PROBE: Final = """
import threading
import numpy
numpy.ones((64, 64), numpy.float32) @ numpy.ones((64, 64), numpy.float32)
there, held = threading.Event(), threading.Event()
def work():
    block = bytearray(65536)
    there.set()
    held.wait()
threading.Thread(target=work, daemon=True).start()
there.wait()
for line in open("/proc/self/status"):
    if line.startswith(("VmSize:", "VmRSS:")):
        print(line.split()[1])
held.set()
"""
KIB: Final = 1024


@functools.cache
def overhead_bytes() -> int:
    """Address space that a numpy process with a second thread maps and does not use.

    Raises:
        EmulationError: there is no numpy, or the kernel does not tell.
    """
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(  # noqa: S603 (our own words)
        command, env=own_environment(), check=False, capture_output=True, text=True
    )
    numbers = done.stdout.split()
    if done.returncode or len(numbers) != 2:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EmulationError(f"the address space of a numpy process cannot be measured: {last}")
    mapped, resident = map(int, numbers)  # in the order of the file: VmSize, VmRSS
    return (mapped - resident) * KIB
