"""Programs that end when we do, however we end: by SIGKILL too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

# The kernel tells a child of its parent's death only where that comes after the child has asked for it: one whose
# parent has died before does not start.
_LOOK = '[ "$PPID" = "$0" ] && exec "$@"'
# The same with all that the program starts: the kernel tells only a shell, which leads their process group.
_LEAD = '[ "$PPID" = "$0" ] || exit 1; trap "kill -KILL 0" TERM; "$@" & wait $!'


def tied(words: Sequence[str], *, signal: str = "KILL") -> list[str]:
    """`words`, for this process to start: the program gets `signal` when the thread that has started it ends."""
    return _started_by(_LOOK, words, signal=signal)


def _started_by(script: str, words: Sequence[str], *, signal: str) -> list[str]:
    return ["setpriv", "--pdeathsig", signal, "--", "sh", "-c", script, str(os.getpid()), *words]


def run_tied(words: Sequence[str], *, limit: float) -> tuple[int, str]:
    """Run a program to its end, without input; its exit code, and what it and those that it starts print.

    Raises subprocess.TimeoutExpired after `limit` seconds. Then, and when we end, all of them are killed that have
    stayed in its process group."""
    with subprocess.Popen(
        _started_by(_LEAD, words, signal="TERM"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output.decode(errors="replace")
