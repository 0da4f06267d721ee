"""Runs the long programs of a build: logs every line as it arrives, and passes it on."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness import shortage
from harness.build.command import started
from harness.build.confinement import Confinement
from harness.errors import InfraError


def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    limit: float,
    on_line: Callable[[str], None] = lambda line: None,
    env: Mapping[str, str] | None = None,
    confinement: Confinement | None = None,
) -> tuple[int, list[str]]:
    """Run `command`, append its output to `log`, and pass each line to `on_line`.

    Returns its exit code and the last 20,000 lines of output. Raises InfraError after `limit` seconds, or if the
    program is missing. The program ends when the harness ends. `confinement`: what it is run in."""
    lines: deque[str] = deque(maxlen=20_000)
    with shortage.reported(log), log.open("a", encoding="utf-8", errors="replace") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        with started(command, env=env, stderr=subprocess.STDOUT, confinement=confinement) as process:
            for line in _lines(process, limit=limit, what=command[0]):
                out.write(line + "\n")
                lines.append(line)
                on_line(line)
            return process.wait(), list(lines)


def _lines(process: subprocess.Popen[bytes], *, limit: float, what: str) -> Iterator[str]:
    """Yield every line that `process` prints."""
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None
    stream = process.stdout

    def read() -> None:
        for raw in stream:
            arrived.put(raw.decode("utf-8", "replace").rstrip("\n"))
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + limit
    while True:
        try:
            line = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise InfraError(f"{what}: did not end within {limit:.0f} s") from None
        if line is None:
            return
        yield line
