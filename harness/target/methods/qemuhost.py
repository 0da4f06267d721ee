"""How QEMU comes to an end, or stops a machine, for reasons of this host's: memory, room on its file systems."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

_FULL = "the file system of its temporary files (TMPDIR, else /var/tmp) or that of the cache is probably full"
_SIGNALS = {
    signal.SIGKILL: ", as this host's out-of-memory killer sends it: see the host's kernel log",
    signal.SIGBUS: f": the file with its memory could not grow; {_FULL}",
    signal.SIGXFSZ: ": a file became larger than `ulimit -f` allows",
}
_STATUS = {
    "io-error": f"it can't write to the machine's disk; {_FULL}",
    "internal-error": "it failed inside",
}
_LAST_LINES = 5
_END_S = 1.0  # its channels close a moment before it is gone


def why_ended(process: subprocess.Popen[bytes]) -> str:
    """Why QEMU, whose channels have closed, was ended by a signal; empty if it ended by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(timeout=_END_S)
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
            return f"QEMU was ended by {name}{_SIGNALS.get(signal.Signals(-code), '')}"
    return ""


def why_stopped(status: str) -> str:
    """Why QEMU has stopped a machine, by the `status` of its monitor; empty if it has not, or for the guest's sake."""
    return f"QEMU has stopped the machine: {_STATUS[status]}" if status in _STATUS else ""


def last_words(log: Path) -> list[str]:
    """What QEMU printed last."""
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return []
