"""What a kernel that panicked at boot says last."""

from __future__ import annotations

from collections.abc import Sequence


def panic_reason(lines: Sequence[str]) -> str:
    """The line that says why, without printk's time; empty where none does."""
    found = next((line for line in lines if "Kernel panic - not syncing" in line and "---[" not in line), "")
    return found.partition("] ")[2] if found.startswith("[") else found
