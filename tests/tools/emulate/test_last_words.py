"""A trainer that fails where the disk is full: its reason is not lost with it."""

from __future__ import annotations

import time
from pathlib import Path

from missing_tool import leave_out

from edge_client.agent.process import TrainerProcess
from edge_client.emulation.errors import EmulationError
from edge_client.trainer.request import CalibrateRequest
from tools.emulate.small_disk import mount_small_disk

PATIENCE_S = 30.0
FILLS_THE_DISK = """
all="$(dirname "$0")/all"
cat /dev/zero > "$all" 2> /dev/null
while printf '%1024s' x 2> /dev/null >> "$all"; do :; done  # the last blocks
echo "my reason" >&2
exit 9
"""


def test_the_reason_of_a_trainer_that_filled_the_disk_is_heard(tmp_path: Path) -> None:
    request = CalibrateRequest(
        plan="", levels=(), kept=(), batch_size=1, output="", threads=1, engine="auto"
    )
    try:
        disk = mount_small_disk(tmp_path / "store", 4)
    except EmulationError as error:
        leave_out(f"no small file system can be mounted here: {error}")
    try:
        trainer = TrainerProcess(
            request, disk.folder, PATIENCE_S, command=("/bin/sh", "-c", FILLS_THE_DISK)
        )
        deadline = time.monotonic() + PATIENCE_S
        while (outcome := trainer.poll()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert outcome.reason == "my reason"
    finally:
        disk.close()
