"""A gateway whose disk is full, or at fault: it says so once, keeps serving, and tries again."""

from __future__ import annotations

import errno
import logging
import math
import os
from pathlib import Path
from typing import Final

from aggregator.events import Diary
from fedsparse.durable import sync_file
from fedsparse.errors import StoreError
from fedsparse.plan import Plan

log = logging.getLogger("aggregator")

DISK_ERRORS: Final = (OSError, StoreError)  # what writing raises
RETRY_S: Final = 5.0
RESERVE: Final = ".reserve"
LEAST_RESERVE_BYTES: Final = 1024 * 1024


class Reserve:
    """A file that only takes up room: given up when the disk is full, so that a round can end.

    Args:
        folder: on the disk in question.
        size_bytes: of the file.
    """

    def __init__(self, folder: Path, size_bytes: int, name: str = RESERVE) -> None:
        self._path = folder / name
        self._size_bytes = max(size_bytes, LEAST_RESERVE_BYTES)

    @classmethod
    def of(cls, folder: Path, plan: Plan) -> Reserve:
        """Room for two checkpoints of a model."""
        return cls(folder, 2 * 4 * (plan.num_prunable + plan.num_dense))

    def release(self) -> bool:
        """Give the room back; whether there was any."""
        if not self._path.exists():
            return False
        self._path.unlink()
        return True

    def probe(self) -> None:
        """See whether the disk has room beside the reserve.

        Raises:
            OSError: it has not.
        """
        probe = Reserve(self._path.parent, LEAST_RESERVE_BYTES, name=f"{RESERVE}.probe")
        try:
            probe.refill()
        finally:
            probe.release()

    def refill(self) -> None:
        """Take the room (again).

        Raises:
            OSError: there is none.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size != self._size_bytes:
                os.ftruncate(descriptor, self._size_bytes)
                _allocate(descriptor, self._size_bytes)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)
        sync_file(self._path)


def _allocate(descriptor: int, size_bytes: int) -> None:
    """Have the file system set blocks aside; where it cannot, the file is of no use."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


class DiskWatch:
    """Whether the disk takes what it is given.

    Args:
        reserve: is taken now.
        events: the job's diary.

    Attributes:
        retry_at_s: when to try again what it did not take.

    Raises:
        OSError: there is no room for the reserve.
    """

    def __init__(self, reserve: Reserve, events: Diary) -> None:
        reserve.refill()
        self._reserve = reserve
        self._events = events
        self.retry_at_s = math.inf

    @property
    def failing(self) -> bool:
        """Whether it did not, when last asked."""
        return self.retry_at_s < math.inf

    def failed(self, error: Exception, now_s: float, *, vital: bool = True) -> None:
        """Something could not be written: tell it once.

        Args:
            error: what the disk said.
            now_s: the time.
            vital: whether the job cannot go on without: the reserve is given up for it. Updates
                that come are not vital, since their devices keep them.
        """
        if not self.failing:
            log.error("disk=failing reason=%r way_out=make_room", str(error))
            self._events.write("disk_full", reason=str(error), retry_s=RETRY_S)
        made_room = vital and self._reserve.release()
        self.retry_at_s = now_s if made_room else now_s + RETRY_S

    def try_again(self, now_s: float, *, behind: bool) -> bool:
        """Whether all is well again; to be asked at `retry_at_s`.

        Args:
            now_s: the time.
            behind: whether something vital still could not be written.
        """
        try:
            if behind:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._reserve.refill()
            self._reserve.probe()
        except OSError:
            self.retry_at_s = now_s + RETRY_S
            return False
        self.retry_at_s = math.inf
        log.info("disk=mended")
        self._events.write("disk_has_room")
        return True
