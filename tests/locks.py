"""Who waits for a lock, as the kernel knows it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_LIMIT_S = 60.0


def wait_for_a_waiter(file: int | Path) -> None:
    """Wait until a process waits for the flock of this file: those lines of /proc/locks have an arrow."""
    inode = str(os.stat(file).st_ino)  # noqa: PTH116 - it may be a descriptor
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        if any(inode == field.rpartition(":")[2] for line in waiting for field in line):
            return
        os.sched_yield()
    raise AssertionError(f"nobody waits for {file}")
