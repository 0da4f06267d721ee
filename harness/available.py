"""The CPUs and memory of the host that this process may use; in a container or a service, often only a part."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cpus(root: Path = ROOT) -> int:
    """Return how many CPUs we may keep busy, at least one: those of our affinity, and no more than the control groups'
    quota."""
    allowed = len(os.sched_getaffinity(0))
    for group in _groups(root):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return max(1, allowed)


def memory_mib(root: Path = ROOT) -> int:
    """Return the MiB that are free or can be freed for us; 0 if the host does not say."""
    free = _named(root / "proc/meminfo").get("MemAvailable:", 0) // 1024
    for group in _groups(root):
        limit, used = _text(group / "memory.max"), _text(group / "memory.current")
        if limit.isdigit() and used.isdigit():
            cached = _named(group / "memory.stat").get("inactive_file", 0)
            free = min(free, (int(limit) - int(used) + cached) >> 20)
    return max(0, free)


def _groups(root: Path) -> Iterator[Path]:
    """The directories of our control group (version 2) and of those it is in: each may have a limit."""
    own = next((line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    directory = root / "sys/fs/cgroup"
    yield directory
    for name in own.split("/"):
        if name:
            directory /= name
            yield directory


def _named(path: Path) -> dict[str, int]:
    """Lines that begin with a name and a number."""
    found = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in found if len(words) > 1 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
