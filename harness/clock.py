"""The time of day in a run. It goes on steadily from the beginning of the run, in all of its processes: setting the
host's clock meanwhile (by NTP, by hand) moves no event, and makes no duration negative or a day long."""

from __future__ import annotations

import time

_offset = 0.0  # seconds between the time since the host booted, suspension included, and the time of day


def start() -> float:
    """Take the host's time of day for this run's. Returns what its other processes need for `follow`."""
    global _offset
    _offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return _offset


def follow(offset: float) -> None:
    """Use another process's time of day; `offset` is from its `start` or `offset`."""
    global _offset
    _offset = offset


def offset() -> float:
    """What other processes of this run need for `follow`."""
    return _offset or start()


def now() -> float:
    """Seconds since the epoch."""
    return offset() + time.clock_gettime(time.CLOCK_BOOTTIME)
