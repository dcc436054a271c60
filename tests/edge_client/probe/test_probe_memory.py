from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import machines
import psutil
import pytest
from real_groups import require_groups

from edge_client.emulation.confine import confine
from edge_client.emulation.report import Resource
from edge_client.probe.memory import MemoryReading, read_memory, read_swap, system_memory

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MemTotal:\n",
        "MemTotal: 100 kB\n",
        "MemAvailable: 100 kB\n",
        "MemTotal: lots kB\nMemAvailable: 5 kB\n",
        "MemTotal: -1 kB\nMemAvailable: -1 kB\n",
        "MemTotal: 100 kB\nMemAvailable: 200 kB\n",
        "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
        "MemTotal: 99999999999999999999 kB\nMemAvailable: 5 kB\n",
    ],
)
def test_memory_that_cannot_be_is_no_reading(tmp_path: Path, text: str) -> None:
    write(tmp_path, "proc/meminfo", text)
    with pytest.raises(OSError, match="/proc/meminfo"):
        system_memory(tmp_path)


def test_swap_and_compressed_memory_are_told_apart(tmp_path: Path) -> None:
    swap = read_swap(machines.pi_zero_2w(tmp_path))
    assert (swap.swap_bytes, swap.zram_bytes, swap.unknown) == (213_000 * 1024, 213_000 * 1024, ())


def test_compressed_memory_of_several_disks_adds_up(tmp_path: Path) -> None:
    assert read_swap(machines.jetson_orin_nano(tmp_path)).zram_bytes == 6 * 650_000 * 1024


def test_no_compressed_disk_is_none_and_no_list_of_disks_is_unknown(tmp_path: Path) -> None:
    assert read_swap(machines.pi_5(tmp_path / "pi")).zram_bytes == 0
    swap = read_swap(tmp_path / "nothing")
    assert (swap.swap_bytes, swap.zram_bytes) == (None, None)
    assert [line.partition(":")[0] for line in swap.unknown] == ["swap", "zram"]


def test_a_compressed_disk_of_an_absurd_size_is_named(tmp_path: Path) -> None:
    write(tmp_path, "sys/block/zram0/disksize", "-5")
    assert any("-5" in line for line in read_swap(tmp_path).unknown)


def test_a_real_group_limits_what_is_read() -> None:
    limit_bytes = 200 * MIB
    with confine(memory=limit_bytes) as place:
        require_groups(place, Resource.MEMORY)
        kind = place.report().of(Resource.MEMORY).mechanism.value
        code = (
            "from edge_client.probe.memory import read_memory as r; m = r();"
            "print(m.total_bytes, m.available_bytes, m.source)"
        )
        done = subprocess.run(
            place.command([sys.executable, "-c", code]),
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
    total, available, source = done.stdout.strip().split(" ", 2)
    assert (int(total), source) == (limit_bytes, kind)
    assert limit_bytes // 2 < int(available) < limit_bytes  # Python itself takes some


def test_this_machine_can_be_read() -> None:
    reading = read_memory()
    assert 0 < reading.available_bytes <= reading.total_bytes
