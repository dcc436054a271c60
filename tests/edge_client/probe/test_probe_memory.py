from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest

from edge_client.probe.memory import MemoryReading, read_memory, system_memory

MIB = 2**20


def system() -> MemoryReading:
    return MemoryReading(total_bytes=4000 * MIB, available_bytes=3000 * MIB, source="system")


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="ascii")


@pytest.fixture(autouse=True)
def no_address_space_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    set_address_space(monkeypatch, resource.RLIM_INFINITY)


def set_address_space(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))


def test_without_limits_the_system_decides(tmp_path: Path) -> None:
    assert read_memory(system, tmp_path) == system()


def test_the_cgroup_v2_limit_counts_without_the_page_cache(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/site/agent\n")
    group = "sys/fs/cgroup/site/agent"
    write(tmp_path, f"{group}/memory.max", f"{512 * MIB}\n")
    write(tmp_path, f"{group}/memory.current", f"{200 * MIB}\n")
    write(tmp_path, f"{group}/memory.stat", f"anon 1\ninactive_file {50 * MIB}\n")
    assert read_memory(system, tmp_path) == MemoryReading(
        total_bytes=512 * MIB, available_bytes=362 * MIB, source="cgroup v2"
    )


def test_the_limit_of_a_parent_group_counts_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/site/agent\n")
    write(tmp_path, "sys/fs/cgroup/site/agent/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/site/memory.max", f"{100 * MIB}\n")
    write(tmp_path, "sys/fs/cgroup/site/memory.current", f"{30 * MIB}\n")
    assert read_memory(system, tmp_path).available_bytes == 70 * MIB


def test_the_cgroup_v1_limit_counts_from_inside_a_container(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "12:cpu,cpuacct:/docker/1\n9:memory:/docker/1\n")
    group = "sys/fs/cgroup/memory"  # the container sees its own group as the mount
    write(tmp_path, f"{group}/memory.limit_in_bytes", f"{256 * MIB}\n")
    write(tmp_path, f"{group}/memory.usage_in_bytes", f"{96 * MIB}\n")
    write(tmp_path, f"{group}/memory.stat", f"total_inactive_file {32 * MIB}\n")
    reading = read_memory(system, tmp_path)
    assert (reading.available_bytes, reading.source) == (192 * MIB, "cgroup v1")


def test_the_number_that_means_unlimited_in_cgroup_v1_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "9:memory:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert read_memory(system, tmp_path) == system()


def test_a_generous_limit_does_not_invent_memory(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", f"{9000 * MIB}\n")
    assert read_memory(system, tmp_path) == system()


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", f"{10 * MIB}\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", f"{12 * MIB}\n")
    assert read_memory(system, tmp_path).available_bytes == 0


def test_a_group_path_cannot_leave_the_mount(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/../../elsewhere\n")
    write(tmp_path, "sys/elsewhere/memory.max", "1\n")
    assert read_memory(system, tmp_path) == system()


def test_the_address_space_limit_counts_and_is_called_approximate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_address_space(monkeypatch, 300 * MIB)
    reading = read_memory(system, tmp_path)
    assert reading.available_bytes == 300 * MIB
    assert "approximate" in reading.source


def test_swap_is_never_counted() -> None:
    reading = system_memory()
    assert 0 < reading.available_bytes <= reading.total_bytes == psutil.virtual_memory().total


def test_this_machine_can_be_read() -> None:
    reading = read_memory()
    assert 0 < reading.available_bytes <= reading.total_bytes
