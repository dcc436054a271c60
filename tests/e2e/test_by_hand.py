"""The documented example, as it is written: files and commands are taken from the page itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aggregator.models.session import open_session

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "by-hand.md"
FILE = re.compile(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.+)$", re.MULTILINE)


def free_port() -> int:
    """One that nobody listens on just now; the page wants a number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_page_leads_to_a_model_that_is_right(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("18830", str(free_port()))
    for name, text in FILE.findall(page):
        (tmp_path / name).write_text(text, encoding="utf-8")
    commands = [command for command in COMMAND.findall(page) if not command.startswith("pip ")]
    assert sum("edge-client run" in command for command in commands) == 3
    # A shell runs them; the page's background jobs are waited for through the aggregator.
    script = "\n".join(commands).replace("fedsparse aggregator job.toml &", "")
    script += "\nfedsparse aggregator job.toml\n"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    log = tmp_path / "output.txt"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["sh", "-e", "-c", script],
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        code = shell.wait(timeout=150)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        os.killpg(shell.pid, signal.SIGKILL)  # the broker and the devices run on
        shell.wait()
    assert code == 0, log.read_text()[-3000:]
    with np.load(tmp_path / "test.npz") as test:
        x, y = test["x"], test["y"]
    models = sorted((tmp_path / "vibration").glob("model-*.onnx"))
    assert models
    for path in models:
        logits = np.asarray(open_session(path.read_bytes()).run(None, {"input": x})[0])
        assert (logits.argmax(1) == y).mean() > 0.9, path.name
