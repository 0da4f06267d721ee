"""Parts of QEMU's command line."""

from __future__ import annotations

from pathlib import Path

from harness import shortage
from harness.model.coverage import HITS, Probe


def escaped(path: Path) -> str:
    """Escape `path` for QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def probing(probe: Probe, logs: Path) -> list[str]:
    """The arguments that make QEMU note what it executes, once it is known what that is about."""
    if not probe.table.exists():
        return []
    hits = logs / HITS
    with shortage.reported(logs), hits.open("ab") as file:
        file.truncate(probe.count)
    return ["-plugin", f"file={escaped(probe.plugin)},table={escaped(probe.table)},hits={escaped(hits)}"]
