"""Processes under a real memory limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_client.bench.memory_limit import memory_limit

MIB = 2**20
TAKE = "import sys; block = bytearray(int(sys.argv[1])); block[::4096] = b'x' * len(block[::4096])"


def take(prefix: tuple[str, ...], size: int) -> int:
    return subprocess.run(
        [*prefix, sys.executable, "-c", TAKE, str(size)], check=False, stderr=subprocess.DEVNULL
    ).returncode


def test_a_process_gets_what_the_limit_leaves_and_no_more() -> None:
    with memory_limit(96 * MIB) as limit:
        assert take(limit.prefix, 32 * MIB) == 0
        assert take(limit.prefix, 200 * MIB) != 0
        peak = limit.peak_bytes()
        assert (peak is None) == (limit.kind == "RLIMIT_AS")
        assert peak is None or 32 * MIB < peak <= 96 * MIB


def test_where_no_group_can_be_made_the_address_space_is_limited(tmp_path: Path) -> None:
    with memory_limit(128 * MIB, tmp_path / "nothing") as limit:
        assert limit.kind == "RLIMIT_AS"
        assert take(limit.prefix, 16 * MIB) == 0
        assert take(limit.prefix, 200 * MIB) != 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_group_without_a_memory_controller_is_taken_away_again(
    tmp_path: Path, version: str
) -> None:
    parent = tmp_path / "memory" if version == "v1" else tmp_path
    parent.mkdir(exist_ok=True)  # groups can be made in it, but they have no files
    with memory_limit(96 * MIB, tmp_path) as limit:
        assert limit.kind == "RLIMIT_AS"
    assert list(tmp_path.rglob("fedsparse-*")) == []
