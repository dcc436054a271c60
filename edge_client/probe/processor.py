"""The processor: cores that are there, that may be used and that may be paid for; what they can."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.groups import MEMBERSHIP, control_groups
from edge_client.probe.kernel_files import ROOT, KernelFiles

CPUS: Final = "sys/devices/system/cpu"
CPUINFO: Final = "proc/cpuinfo"
KHZ: Final = (1_000, 20_000_000)  # of a clock that can be
MAX_QUOTA_US: Final = 10**12
MAX_NAME: Final = 64
# Source: Linux, arch/arm64/include/asm/cputype.h: implementer, part.
ARM_PARTS: Final = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
}
# What vector kernels may be made of, as /proc/cpuinfo spells it.
SIMD: Final = frozenset({
    "sse2", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni",
    "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16",
    "neon", "vfpv4", "asimd", "asimdhp", "asimddp", "asimdfhm", "fphp", "bf16", "i8mm",
    "sve", "sve2", "sme",
})  # fmt: skip
# Which processors belong together, first choice first.
# Source: Linux, Documentation/admin-guide/cputopology.rst.
DOMAINS: Final = (
    "cpufreq/related_cpus",
    "topology/cluster_cpus_list",
    "topology/package_cpus_list",
    "topology/core_siblings_list",
)
CORE: Final = "topology/thread_siblings_list"

Affinity = Callable[[], Collection[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Processors of one kind that share a clock; None is unknown.

    Attributes:
        cpus: their numbers.
        max_mhz: the highest clock.
        part: their kind: `Cortex-A53`, or the name that the processor gives itself.
    """

    cpus: tuple[int, ...]
    max_mhz: float | None
    part: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorReading:
    """What was found; None is unknown.

    Attributes:
        present: processors of the machine.
        usable_cpus: those that this process may run on.
        quota: of processor time, in cores; None is no limit, too.
        clusters: all processors that are present, by kind.
        features: what all of them can, as the kernel names it.
        simd: those of `features` that vector kernels are made of.
        unknown: what could not be read, and why.
    """

    present: int | None
    usable_cpus: tuple[int, ...] | None
    quota: float | None
    clusters: tuple[Cluster, ...]
    features: tuple[str, ...]
    simd: tuple[str, ...]
    unknown: tuple[str, ...]


def this_process() -> Collection[int]:
    """The processors that the scheduler may run this process on."""
    return os.sched_getaffinity(0)


def read_processor(root: Path = ROOT, affinity: Affinity = this_process) -> ProcessorReading:
    """What the processor is, and what of it this process has.

    Args:
        root: the folder that stands for `/`.
        affinity: the processors that may be used.
    """
    files = KernelFiles(root)
    infos = _infos(files.text(CPUINFO) or "")
    numbers = files.cpus(f"{CPUS}/present") or tuple(sorted(infos))
    if not numbers:
        files.lack("cores", f"neither /{CPUS}/present nor /{CPUINFO} tells")
    usable = _usable(files, affinity)
    features = _features(infos.values())
    if not features:
        files.lack("CPU features", f"/{CPUINFO} names none")
    return ProcessorReading(
        present=len(numbers) or None,
        usable_cpus=usable,
        quota=_quota(files, root),
        clusters=_clusters(files, numbers, infos),
        features=features,
        simd=tuple(name for name in features if name in SIMD),
        unknown=tuple(files.unknown),
    )


def part_name(info: Mapping[str, str]) -> str | None:
    """The kind of core of one block of `/proc/cpuinfo`."""
    part = info.get("CPU part")
    if part is None:
        return info.get("model name", "")[:MAX_NAME] or None
    implementer = info.get("CPU implementer", "0x41")
    return ARM_PARTS.get((implementer, part), f"ARM part {part}"[:MAX_NAME])


def cpuinfo(root: Path = ROOT) -> dict[int, dict[str, str]]:
    """The blocks of `/proc/cpuinfo`: number of a processor -> what is said of it."""
    return _infos(KernelFiles(root).text(CPUINFO) or "")


def _infos(text: str) -> dict[int, dict[str, str]]:
    infos: dict[int, dict[str, str]] = {}
    block: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal():
            block = infos.setdefault(int(value), {})
        elif key:
            block[key] = value
    return infos


def _usable(files: KernelFiles, affinity: Affinity) -> tuple[int, ...] | None:
    try:
        return tuple(sorted(affinity()))
    except OSError as error:
        files.lack("usable cores", f"{error.strerror}")
        return None


def _features(infos: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Of all processors: a process may be moved to any of them."""
    lists = [(info.get("flags") or info.get("Features") or "").split() for info in infos]
    common = set.intersection(*map(set, lists)) if lists else set()
    return tuple(name for name in dict.fromkeys(lists[0] if lists else ()) if name in common)


def _quota(files: KernelFiles, root: Path) -> float | None:
    """The tightest share of processor time, in cores, of the process's groups and all above."""
    if files.text(MEMBERSHIP) is None:
        files.lack("CPU quota", f"no /{MEMBERSHIP}")
    found = []
    for group in control_groups(root, "cpu"):
        folder = str(group.folder.relative_to(root))
        quota = _quota_v2(files, folder) if group.version == 2 else _quota_v1(files, folder)
        if quota is not None:
            found.append(quota)
    return round(min(found), 4) if found else None


def _quota_v2(files: KernelFiles, folder: str) -> float | None:
    words = (files.text(f"{folder}/cpu.max") or "max").split()
    if words[0] == "max":
        return None
    if len(words) == 2 and all(word.isdecimal() and 0 < int(word) < MAX_QUOTA_US for word in words):
        return int(words[0]) / int(words[1])
    files.lack(f"/{folder}/cpu.max", f"{' '.join(words)[:MAX_NAME]!r} is no quota and period")
    return None


def _quota_v1(files: KernelFiles, folder: str) -> float | None:
    quota = files.number(f"{folder}/cpu.cfs_quota_us", -1, MAX_QUOTA_US)
    period = files.number(f"{folder}/cpu.cfs_period_us", 1, MAX_QUOTA_US)
    return quota / period if quota is not None and quota > 0 and period is not None else None


def _clusters(
    files: KernelFiles, numbers: Sequence[int], infos: Mapping[int, Mapping[str, str]]
) -> tuple[Cluster, ...]:
    """Every domain, divided by kind of core and clock."""
    kinds: dict[tuple[tuple[int, ...], str | None, float | None], list[int]] = {}
    for number, domain in _domains(files, numbers).items():
        khz = files.number(f"{CPUS}/cpu{number}/cpufreq/cpuinfo_max_freq", *KHZ)
        mhz = None if khz is None else khz / 1e3
        kinds.setdefault((domain, part_name(infos.get(number, {})), mhz), []).append(number)
    if kinds and any(mhz is None for _, _, mhz in kinds):
        files.lack("clock", f"no cpufreq/cpuinfo_max_freq below /{CPUS}")
    if kinds and any(part is None for _, part, _ in kinds):
        files.lack("kind of core", f"/{CPUINFO} does not tell")
    return tuple(
        Cluster(cpus=tuple(cpus), max_mhz=mhz, part=part) for (_, part, mhz), cpus in kinds.items()
    )


def _domains(files: KernelFiles, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Processor -> those it belongs with: a domain of no more than a core says nothing of that."""
    cores = {number: files.cpus(f"{CPUS}/cpu{number}/{CORE}") or (number,) for number in numbers}
    for source in DOMAINS:
        found = {number: files.cpus(f"{CPUS}/cpu{number}/{source}") or () for number in numbers}
        if all(len(found[number]) > len(cores[number]) for number in numbers):
            return found
    return dict.fromkeys(numbers, tuple(numbers))
