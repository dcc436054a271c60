"""The engine's own tests, run in another Python: on another processor, or under a sanitizer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
FOLDER: Final = ROOT / "tests" / "edge_client" / "runtime"
# What is left to the machine itself, and why; any other new file runs everywhere.
NATIVE_ONLY: Final = {
    "test_sparse_cost.py": "measures resident memory: there, the emulator's or the sanitizer's too",
    "test_auto.py": "weighs an engine whose graphs torch exports",
    "test_step_times.py": "times engines that are made up: no kernel of ours is asked",
    "test_graph_cost.py": "measures resident memory, too",
    "test_graph_engine.py": "onnxruntime's kernels, not ours; torch exports the graphs",
    "test_engine_contract.py": "torch exports the graphs of one of the engines",
    "test_powerpropagation.py": "numpy around any engine, held against the gradients of torch",
}


def start_engine_tests(
    python: Sequence[str | Path],
    packages: Path | None,
    *options: str,
    environment: Mapping[str, str] | None = None,
    share: str = "0/1",
) -> subprocess.Popen[str]:
    """Start pytest on them, with the plugin `oracle_tape`.

    Args:
        python: the command of the interpreter.
        packages: the folder from which `edge_client` is to be imported; None: as `python` has it.
        options: of pytest.
        environment: added to this process's.
        share: `I/N`: only every N-th test, from number I on.
    """
    searched = [HERE] if packages is None else [packages, HERE]
    variables = {"PYTHONPATH": os.pathsep.join(map(str, searched)), "PYTHONDONTWRITEBYTECODE": "1"}
    left_out = [f"--ignore={FOLDER / name}" for name in NATIVE_ONLY]
    return subprocess.Popen(
        [*python, "-m", "pytest", "-q", "-p", "oracle_tape", "-p", "no:cacheprovider",
         "--capture=sys",  # what ends the process is said on the real stderr
         f"--confcutdir={FOLDER}", f"--share={share}", *left_out, *options, str(FOLDER)],
        cwd=HERE.parent,  # not the root, whose packages would be found first
        env=os.environ | variables | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def passed(*tests: subprocess.Popen[str]) -> int:
    """Wait for their end; returns how many passed, fails if one did not."""
    outputs = [run.communicate()[0] for run in tests]
    for run, output in zip(tests, outputs, strict=True):
        assert run.returncode == 0, output[-6000:]
    return sum(int(output.rpartition(" passed")[0].split()[-1]) for output in outputs)


def replay(
    tape: Path,
    python: Sequence[str | Path],
    packages: Path | None,
    *options: str,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run them on a recorded oracle, in two processes side by side; returns how many passed."""
    options = (*options, f"--replay-tape={tape}")
    shares = [
        start_engine_tests(python, packages, *options, environment=environment, share=f"{i}/2")
        for i in range(2)
    ]
    return passed(*shares)
