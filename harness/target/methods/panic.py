"""The reason that a kernel gives for a panic at boot, or for giving up otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ENOUGH_KIB = 96 << 10  # more than a kernel and a shell need; an initramfs needs more, and says so itself
_MEMORY = re.compile(r"\bMemory: \d+K/(?P<kib>\d{1,15})K available")
_NO_MEMORY = re.compile(r"System is deadlocked on memory|Out of memory")
_NO_ROOM = "Initramfs unpacking failed: write error"


def panic_reason(lines: Sequence[str]) -> str:
    """Return the line with the reason, without printk's time; empty if there is none."""
    found = next((line for line in lines if "Kernel panic - not syncing" in line and "---[" not in line), "")
    return found.partition("] ")[2] if found.startswith("[") else found


def lack_of_memory(lines: Sequence[str]) -> str:
    """Return why a machine has too little memory for any kernel; empty if it may have enough.

    A kernel that runs out of memory on a machine that has enough is at fault itself."""
    told = next((match for line in lines if (match := _MEMORY.search(line))), None)
    has = f"the machine has {int(told['kib']) >> 10} MiB of memory" if told else "the machine has too little memory"
    if any(_NO_ROOM in line for line in lines):
        return f"{has}, in which the root file system has no room"
    if told and int(told["kib"]) < _ENOUGH_KIB and any(_NO_MEMORY.search(line) for line in lines):
        return f"{has}, which is too little to boot; see memory_mib, and mem= in cmdline"
    return ""
