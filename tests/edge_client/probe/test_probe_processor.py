from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machines import (
    CPUS,
    arm_cpuinfo,
    container_v1,
    container_v2,
    jetson_orin_nano,
    laptop,
    nothing,
    pi_5,
    pi_zero_2w,
    write,
)
from missing_tool import leave_out

from edge_client.probe.kernel_files import cpu_list
from edge_client.probe.processor import Cluster, ProcessorReading, read_processor

ROOT = Path(__file__).parents[3]
GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def quarter_of_a_core() -> Iterator[tuple[str, ...]]:
    """What to put before a command so that it gets so much."""
    name = f"fedsparse-probe-{os.getpid()}"
    for parent, file, text in (
        (GROUPS / "cpu", "cpu.cfs_quota_us", "25000"),
        (GROUPS, "cpu.max", "25000 100000"),
    ):
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / file).exists():
                (group / file).write_text(text)
                yield ("/bin/sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh")
                return
        finally:
            group.rmdir()
    leave_out("no control group with a processor quota can be made: run the tests as root")


def read(root: Path) -> ProcessorReading:
    return read_processor(root, lambda: {0, 1})


def test_a_pi_zero_2_w_has_one_cluster_of_its_kind(tmp_path: Path) -> None:
    reading = read(pi_zero_2w(tmp_path))
    assert reading.clusters == (Cluster(cpus=(0, 1, 2, 3), max_mhz=1000.0, part="Cortex-A53"),)
    assert (reading.present, reading.usable_cpus, reading.quota) == (4, (0, 1), None)
    assert reading.features == ("fp", "asimd", "evtstrm", "crc32", "cpuid")
    assert reading.simd == ("asimd",)
    assert reading.unknown == ()


def test_a_pi_5_can_multiply_halves_and_bytes(tmp_path: Path) -> None:
    reading = read(pi_5(tmp_path))
    assert reading.simd == ("asimd", "fphp", "asimdhp", "asimddp")
    assert reading.clusters[0].part == "Cortex-A76"
    assert reading.clusters[0].max_mhz == 2400.0


def test_clusters_of_equal_cores_stay_apart_where_their_clocks_do(tmp_path: Path) -> None:
    clusters = read(jetson_orin_nano(tmp_path)).clusters
    assert [cluster.cpus for cluster in clusters] == [(0, 1, 2, 3), (4, 5)]
    assert {(cluster.part, cluster.max_mhz) for cluster in clusters} == {("Cortex-A78AE", 1510.4)}


def test_cores_with_a_clock_each_are_grouped_by_kind(tmp_path: Path) -> None:
    name = "Intel(R) Core(TM) i5"
    assert read(laptop(tmp_path)).clusters == (
        Cluster(cpus=(0, 1), max_mhz=4800.0, part=name),
        Cluster(cpus=(2, 3), max_mhz=3500.0, part=name),
    )


def test_a_cluster_of_the_topology_counts_where_there_is_no_cpufreq(tmp_path: Path) -> None:
    write(tmp_path, {f"{CPUS}/present": "0-3", "proc/cpuinfo": arm_cpuinfo(4, "0xd08")})
    for cpu in range(4):
        text = "0-1" if cpu < 2 else "2-3"
        write(tmp_path, {f"{CPUS}/cpu{cpu}/topology/cluster_cpus_list": text})
    reading = read(tmp_path)
    assert [cluster.cpus for cluster in reading.clusters] == [(0, 1), (2, 3)]
    assert reading.clusters[0].max_mhz is None
    assert any(line.startswith("clock:") for line in reading.unknown)


def test_an_unknown_part_keeps_its_number(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": arm_cpuinfo(2, "0xabc")})
    reading = read(tmp_path)
    assert reading.clusters[0].part == "ARM part 0xabc"
    assert reading.present == 2


def test_a_feature_that_one_core_lacks_is_none(tmp_path: Path) -> None:
    first, second = arm_cpuinfo(2, "0xd03", "fp asimd sve").split("\n\n", 1)
    for text in (first.replace(" sve", "") + "\n\n" + second,
                 first + "\n\n" + second.replace(" sve", "")):  # fmt: skip
        write(tmp_path, {"proc/cpuinfo": text})
        assert read(tmp_path).features == ("fp", "asimd")


def test_the_tightest_quota_of_all_parents_counts(tmp_path: Path) -> None:
    assert read(container_v2(tmp_path)).quota == 1.5


def test_a_quota_of_cgroup_v1_is_found_where_controllers_are_mounted_together(
    tmp_path: Path,
) -> None:
    assert read(container_v1(tmp_path)).quota == 0.25


def test_a_real_group_limits_what_is_read() -> None:
    with quarter_of_a_core() as prefix:
        code = "from edge_client.probe.processor import read_processor as r; print(r().quota)"
        done = subprocess.run(
            [*prefix, sys.executable, "-c", code],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
    assert done.stdout.strip() == "0.25"


@pytest.mark.parametrize("text", ["", "max", "x y", "0 100000", "100000 0", "-5 100", "1 2 3"])
def test_a_quota_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": text})
    reading = read(tmp_path)
    assert reading.quota is None
    assert any("cpu.max" in line for line in reading.unknown) == (text not in ("", "max"))


@pytest.mark.parametrize("khz", ["-1", "fast", "1000000000000", "0"])
def test_a_clock_that_cannot_be_is_unknown(tmp_path: Path, khz: str) -> None:
    pi_5(tmp_path)
    for cpu in range(4):
        write(tmp_path, {f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq": khz})
    reading = read(tmp_path)
    assert [cluster.max_mhz for cluster in reading.clusters] == [None]
    assert any(khz in line for line in reading.unknown)


def test_without_files_only_what_the_scheduler_says_is_known(tmp_path: Path) -> None:
    reading = read(nothing(tmp_path))
    assert (reading.present, reading.usable_cpus, reading.clusters) == (None, (0, 1), ())
    for what in ("cores", "CPU features", "CPU quota"):
        assert any(line.startswith(f"{what}:") for line in reading.unknown)


def test_a_scheduler_that_does_not_tell_is_no_crash(tmp_path: Path) -> None:
    def refused() -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    reading = read_processor(pi_5(tmp_path), refused)
    assert reading.usable_cpus is None
    assert "usable cores: Operation not permitted" in reading.unknown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,5\n", (0, 1, 2, 3, 5)),
        ("0 1 2", (0, 1, 2)),
        ("7", (7,)),
        ("0-99999999", None),
        ("-1", None),
        ("all", None),
        ("3-", None),
    ],
)
def test_lists_of_processors_are_read_as_the_kernel_writes_them(
    text: str, expected: tuple[int, ...] | None
) -> None:
    assert cpu_list(text) == expected
