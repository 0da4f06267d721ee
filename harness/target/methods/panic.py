"""The reason that a kernel gives for a panic at boot."""

from __future__ import annotations

from collections.abc import Sequence


def panic_reason(lines: Sequence[str]) -> str:
    """Return the line with the reason, without printk's time; empty if there is none."""
    found = next((line for line in lines if "Kernel panic - not syncing" in line and "---[" not in line), "")
    return found.partition("] ")[2] if found.startswith("[") else found
