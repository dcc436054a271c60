"""Folders that look like `/` of machines: what their kernels show, as far as the probe reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

CPUS = "sys/devices/system/cpu"
ARM64_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimddp"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    return root


def arm_cpuinfo(cores: int, part: str, features: str = "fp asimd evtstrm crc32 cpuid") -> str:
    return "\n".join(
        f"processor\t: {core}\nBogoMIPS\t: 38.40\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\n"
        for core in range(cores)
    )


def frequencies(domains: Iterable[tuple[int, ...]], khz: int) -> dict[str, str]:
    return {
        f"{CPUS}/cpu{cpu}/cpufreq/{name}": value
        for domain in domains
        for cpu in domain
        for name, value in (
            ("related_cpus", " ".join(map(str, domain)) + "\n"),
            ("cpuinfo_max_freq", f"{khz}\n"),
        )
    }


def meminfo(total_kb: int, available_kb: int, swap_kb: int = 0) -> dict[str, str]:
    return {
        "proc/meminfo": f"MemTotal:       {total_kb} kB\nMemFree:        1000 kB\n"
        f"MemAvailable:   {available_kb} kB\nSwapTotal:      {swap_kb} kB\n"
    }


def pi_zero_2w(root: Path) -> Path:
    """Raspberry Pi OS; short of power at this moment."""
    return write(root, {
        "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
        "proc/cpuinfo": arm_cpuinfo(4, "0xd03") + "\nRevision\t: 902120\nModel\t: Raspberry Pi\n",
        f"{CPUS}/present": "0-3\n",
        **frequencies([(0, 1, 2, 3)], 1_000_000),
        **meminfo(426_000, 268_000, swap_kb=213_000),
        "sys/block/zram0/disksize": f"{213_000 * 1024}\n",
        "sys/block/mmcblk0/size": "1\n",
        "proc/self/cgroup": "0::/system.slice/edge-client.service\n",
        "sys/fs/cgroup/system.slice/edge-client.service/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/edge-client.service/cpu.max": "max 100000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "61224\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    })  # fmt: skip


def pi_5(root: Path) -> Path:
    """Raspberry Pi OS; its firmware shows no file."""
    return write(root, {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": arm_cpuinfo(4, "0xd0b", ARM64_FEATURES),
        f"{CPUS}/present": "0-3\n",
        **frequencies([(0, 1, 2, 3)], 2_400_000),
        **meminfo(8_245_000, 7_300_000, swap_kb=102_396),
        "sys/block/mmcblk0/size": "1\n",
        "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "49950\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
    })  # fmt: skip


def jetson_orin_nano(root: Path) -> Path:
    """JetPack 6; the first alarm of its supply has come twice."""
    thermal = "sys/class/thermal"
    return write(root, {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "proc/cpuinfo": arm_cpuinfo(6, "0xd42", ARM64_FEATURES),
        f"{CPUS}/present": "0-5\n",
        **frequencies([(0, 1, 2, 3), (4, 5)], 1_510_400),
        **meminfo(7_800_000, 6_100_000, swap_kb=3_900_000),
        **{f"sys/block/zram{number}/disksize": f"{650_000 * 1024}\n" for number in range(6)},
        "proc/self/cgroup": "0::/system.slice/edge-client.service\n",
        f"{thermal}/thermal_zone0/type": "cpu-thermal\n",
        f"{thermal}/thermal_zone0/temp": "52156\n",
        f"{thermal}/thermal_zone1/type": "gpu-thermal\n",
        f"{thermal}/thermal_zone1/temp": "-256000\n",  # of a sensor that is switched off
        f"{thermal}/thermal_zone2/type": "tj-thermal\n",
        f"{thermal}/thermal_zone2/temp": "53000\n",
        f"{thermal}/cooling_device0/type": "cpu-throttle-alert\n",
        f"{thermal}/cooling_device0/cur_state": "0\n",
        f"{thermal}/cooling_device1/type": "pwm-fan\n",
        f"{thermal}/cooling_device1/cur_state": "3\n",
        "sys/class/hwmon/hwmon0/name": "ina3221\n",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "2\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "0\n",
    })  # fmt: skip


def laptop(root: Path) -> Path:
    """x86-64, two fast and two slow cores; on its battery, with a mouse that has one, too."""
    flags = "fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx_vnni"
    threads = {0: "0-1", 1: "0-1", 2: "2", 3: "3"}
    supply = "sys/class/power_supply"
    return write(root, {
        "sys/class/dmi/id/product_name": "ThinkPad X1\n",
        "proc/cpuinfo": "\n".join(
            f"processor\t: {cpu}\nmodel name\t: Intel(R) Core(TM) i5\nflags\t\t: {flags}\n"
            for cpu in threads
        ),
        f"{CPUS}/present": "0-3\n",
        **frequencies([(0,), (1,)], 4_800_000),
        **frequencies([(2,), (3,)], 3_500_000),
        **{f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": text for cpu, text in threads.items()},
        **{f"{CPUS}/cpu{cpu}/topology/cluster_cpus_list": text for cpu, text in threads.items()},
        **{f"{CPUS}/cpu{cpu}/topology/package_cpus_list": "0-3\n" for cpu in threads},
        **meminfo(16_000_000, 9_000_000),
        "sys/block/nvme0n1/size": "1\n",
        "proc/self/cgroup": "0::/user.slice\n",
        "sys/class/thermal/thermal_zone0/type": "acpitz\n",
        "sys/class/thermal/thermal_zone0/temp": "90000\n",
        "sys/class/thermal/thermal_zone9/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone9/temp": "66000\n",
        "sys/class/thermal/cooling_device0/type": "Processor\n",
        "sys/class/thermal/cooling_device0/cur_state": "0\n",
        "sys/class/thermal/cooling_device10/type": "Processor\n",
        "sys/class/thermal/cooling_device10/cur_state": "3\n",
        f"{supply}/AC/type": "Mains\n",
        f"{supply}/AC/online": "0\n",
        f"{supply}/BAT0/type": "Battery\n",
        f"{supply}/BAT0/status": "Discharging\n",
        f"{supply}/BAT0/capacity": "57\n",
        f"{supply}/hid-mouse/type": "Battery\n",
        f"{supply}/hid-mouse/scope": "Device\n",
        f"{supply}/hid-mouse/capacity": "93\n",
    })  # fmt: skip


def container_v2(root: Path) -> Path:
    """One and a half cores and 512 MiB of a server; the cores' limit is that of a parent."""
    group = "sys/fs/cgroup/kubepods/pod1"
    return write(root, {
        "proc/cpuinfo": arm_cpuinfo(8, "0xd0c", ARM64_FEATURES),
        f"{CPUS}/present": "0-7\n",
        **meminfo(32_000_000, 30_000_000),
        "proc/self/cgroup": "0::/kubepods/pod1/box\n",
        f"{group}/cpu.max": "150000 100000\n",
        f"{group}/box/cpu.max": "400000 100000\n",
        f"{group}/box/memory.max": f"{512 * 2**20}\n",
        f"{group}/box/memory.current": f"{112 * 2**20}\n",
    })  # fmt: skip


def container_v1(root: Path) -> Path:
    """A quarter of a core and 256 MiB, in hierarchies that are mounted together."""
    cpu = "sys/fs/cgroup/cpu,cpuacct/docker/1"
    return write(root, {
        **meminfo(32_000_000, 30_000_000),
        "proc/self/cgroup": "9:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
        f"{cpu}/cpu.cfs_quota_us": "25000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{256 * 2**20}\n",
        "sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": f"{56 * 2**20}\n",
    })  # fmt: skip


def nothing(root: Path) -> Path:
    """Neither /proc nor /sys."""
    return root


MACHINES = (pi_zero_2w, pi_5, jetson_orin_nano, laptop, container_v2, container_v1, nothing)
