"""Where control groups are looked for and made; folders stand for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.emulation.group import Group
from edge_client.emulation.groups import open_groups
from edge_client.emulation.hierarchy import legacy, unified
from edge_client.emulation.memory import hold_memory
from edge_client.emulation.report import Mechanism, Resource

OWN = "user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope"


class Kernel:
    """A folder that stands for `/`, whose new control groups get files as a kernel's do."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.files: dict[Path, tuple[str, ...]] = {}
        (root / "proc/self").mkdir(parents=True)
        make, remove = Path.mkdir, Path.rmdir

        def mkdir(folder: Path, *arguments: object, **options: object) -> None:
            make(folder, *arguments, **options)  # type: ignore[arg-type]
            if folder.name.startswith("fedsparse-"):
                switch = folder.parent / "cgroup.subtree_control"
                on = switch.read_text().replace("+", " ").split() if switch.exists() else []
                limits = {"memory": "memory.max", "cpu": "cpu.max"}
                names = [limits[one] for one in on if one in limits] or self.files[folder.parent]
                for name in ("cgroup.procs", *names):
                    (folder / name).write_text("")

        def rmdir(folder: Path) -> None:
            if folder.name.startswith("fedsparse-"):
                for file in folder.iterdir():
                    file.unlink()
            remove(folder)

        monkeypatch.setattr(Path, "mkdir", mkdir)
        monkeypatch.setattr(Path, "rmdir", rmdir)
        # The shells that try to join write their id, and have ended when it is read.
        monkeypatch.setattr(Group, "members", lambda _: set())

    def mounted(self, *lines: str) -> None:
        (self.root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def in_groups(self, *lines: str) -> None:
        (self.root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path: str, **files: str) -> Path:
        folder = self.root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"cgroup.{name}").write_text(text)
        return folder


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


def test_a_users_session_makes_its_group_where_both_controllers_are_delegated(
    kernel: Kernel,
) -> None:
    kernel.mounted("24 1 0:22 / /sys rw - sysfs sysfs rw", UNIFIED)
    kernel.in_groups(f"0::/{OWN}")
    kernel.group(OWN, controllers="", subtree_control="")
    kernel.group(str(Path(OWN).parent), controllers="memory", subtree_control="")
    delegated = kernel.group(
        str(Path(OWN).parents[1]), controllers="cpu memory pids", subtree_control="cpu memory"
    )
    made = open_groups("fedsparse-1-2-3-4", ["memory", "cpu"], root=kernel.root)
    assert made.by_controller["memory"] == made.by_controller["cpu"]
    assert made.by_controller["memory"].folder == delegated / "fedsparse-1-2-3-4"
    assert made.by_controller["memory"].version == 2
    assert made.refusals == {"memory": (), "cpu": ()}
    assert len(made.each()) == 1


def test_a_controller_is_turned_on_for_the_groups_below_where_it_is_not_yet(
    kernel: Kernel,
) -> None:
    kernel.mounted(UNIFIED)
    kernel.in_groups("0::/")
    top = kernel.group("", controllers="cpu memory", subtree_control="")
    open_groups("fedsparse-1-2-3-4", ["memory"], root=kernel.root)
    assert (top / "cgroup.subtree_control").read_text() == "+memory"


def test_memory_alone_is_taken_where_the_processor_is_not_delegated(kernel: Kernel) -> None:
    kernel.mounted(UNIFIED)
    kernel.in_groups("0::/")
    kernel.group("", controllers="memory", subtree_control="memory")
    made = open_groups("fedsparse-1-2-3-4", ["memory", "cpu"], root=kernel.root)
    assert set(made.by_controller) == {"memory"}
    assert made.refusals["memory"] == ()
    assert "no cpu" in made.refusals["cpu"][0]
    assert made.refusals["cpu"][1] == "cgroup v1: not mounted"


def test_of_version_1_each_controller_has_a_group_of_its_own_below_ours(kernel: Kernel) -> None:
    kernel.mounted(
        "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        "32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
    )
    kernel.in_groups("9:memory:/jobs/one", "3:cpu,cpuacct:/", "0::/ignored")
    ours, top = kernel.group("memory/jobs/one"), kernel.group("cpu,cpuacct")
    kernel.files = {ours: ("memory.limit_in_bytes",), top: ("cpu.cfs_quota_us", "cpuacct.usage")}
    made = open_groups("fedsparse-1-2-3-4", ["memory", "cpu"], root=kernel.root)
    folders = {name: group.folder.parent for name, group in made.by_controller.items()}
    assert folders == {"memory": ours, "cpu": top, "cpuacct": top}
    assert made.refusals["memory"] == ("cgroup v2: not mounted",)
    assert len(made.each()) == 2


def test_a_container_sees_its_own_group_as_the_top(kernel: Kernel) -> None:
    kernel.mounted("31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    kernel.in_groups("9:memory:/docker/abc/inner")
    inner = kernel.group("memory/inner")
    hierarchy = legacy("memory", kernel.root)
    assert hierarchy is not None
    assert list(hierarchy.candidates()) == [inner, inner.parent]


def test_without_mounts_there_are_no_hierarchies(kernel: Kernel) -> None:
    kernel.mounted()
    kernel.in_groups()
    assert unified(kernel.root) is None
    assert legacy("memory", kernel.root) is None
    made = open_groups("fedsparse-1-2-3-4", ["memory"], root=kernel.root)
    assert made.by_controller == {}
    assert made.refusals["memory"] == ("cgroup v2: not mounted", "cgroup v1: not mounted")


def test_a_group_without_the_files_of_its_controller_is_taken_away_again(kernel: Kernel) -> None:
    kernel.mounted("31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    kernel.in_groups("9:memory:/")
    top = kernel.group("memory")
    kernel.files = {top: ("something.else",)}
    made = open_groups("fedsparse-1-2-3-4", ["memory"], root=kernel.root)
    assert made.by_controller == {}
    assert "No such file" in made.refusals["memory"][1]
    assert list(top.iterdir()) == []


def test_of_version_2_one_process_is_killed_and_no_swap_is_used(tmp_path: Path) -> None:
    for name in ("cgroup.procs", "memory.max", "memory.swap.max", "memory.oom.group"):
        (tmp_path / name).write_text("")
    (tmp_path / "memory.peak").write_text("4096\n")
    events = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n"
    (tmp_path / "memory.events").write_text(events)
    held = hold_memory(64 * 2**20, Group(version=2, folder=tmp_path), facts={})
    written = {name: (tmp_path / name).read_text() for name in ("memory.max", "memory.swap.max")}
    assert written == {"memory.max": str(64 * 2**20), "memory.swap.max": "0"}
    assert (tmp_path / "memory.oom.group").read_text() == "0"
    assert (held.peak_bytes(), held.kills()) == (4096, 3)
    assert held.applied.resource is Resource.MEMORY
    assert held.applied.mechanism is Mechanism.CGROUP_2


def test_a_kernel_that_keeps_no_peak_is_not_said_to_have_seen_none(tmp_path: Path) -> None:
    for name in ("cgroup.procs", "memory.max"):
        (tmp_path / name).write_text("")
    held = hold_memory(64 * 2**20, Group(version=2, folder=tmp_path), facts={})
    assert held.peak_bytes() is None
    assert held.applied.parameters["swap"] == "not counted by this kernel"
