"""A store that can be full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from missing_tool import leave_out

from edge_client.emulation.errors import EmulationError
from tools.emulate.small_disk import MIB, mount_small_disk, unmount_below


@pytest.mark.parametrize("loops", [True, False])
def test_a_full_disk_refuses_and_takes_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, loops: bool
) -> None:
    if not loops:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    try:
        disk = mount_small_disk(tmp_path / "store", 4)
    except EmulationError as error:
        leave_out(f"no small file system can be mounted here: {error}")
    try:
        assert loops or disk.mechanism.startswith("tmpfs of 4 MiB")
        taken = disk.fill()
        assert 2 * MIB < taken <= 4 * MIB
        with pytest.raises(OSError, match="No space") as caught:
            (disk.folder / "update").write_bytes(b"x")
        assert caught.value.errno == errno.ENOSPC
        disk.make_room()
        (disk.folder / "update").write_bytes(b"x")
        assert disk.fill() > 2 * MIB
    finally:
        disk.close()
    assert not disk.folder.is_mount()


def test_what_a_killed_run_left_mounted_is_unmounted(tmp_path: Path) -> None:
    try:
        disk = mount_small_disk(tmp_path / "out" / "store", 4)
    except EmulationError as error:
        leave_out(f"no small file system can be mounted here: {error}")
    unmount_below(tmp_path / "out")
    assert not disk.folder.is_mount()


def test_who_is_not_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(EmulationError, match="only root"):
        mount_small_disk(tmp_path / "store", 4)
