"""Describes the machine of a measurement, and formats figures."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

RUN = ("run", "--no-history", "--no-confirm")  # as measured: only the tests, and nothing left in the user's history


def describe() -> str:
    """``AMD EPYC, 2 cores, load 1.2 0.9 0.7, Linux 6.1.0, Python 3.11.7``."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith(("model name", "CPU part"))]  # fmt: skip
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    return (
        f"{names[0] if names else platform.machine()}, {cores} cores, load {load}, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def peak_rss() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def spread(figures: Sequence[float], *, digits: int = 1) -> str:
    """``median (min–max)``."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
