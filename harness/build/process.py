"""Runs the long programs of a build: logs every line as it arrives, and passes it on."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness import shortage
from harness.build.command import started
from harness.build.confinement import Confinement
from harness.errors import InfraError
from harness.limits import BUILD_LOG_BYTES

_CHUNK_BYTES = 1 << 16
_LONGEST_BYTES = 1 << 20  # of a line


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
    program is missing; UserError if it prints without end. The program ends when the harness ends. `confinement`: what
    it is run in."""
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
    """Yield every line that `process` prints; one that is very long, in pieces."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    deadline = time.monotonic() + limit
    printed, rest = 0, b""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise InfraError(f"{what}: did not end within {limit:.0f} s")
            chunk = os.read(stream, _CHUNK_BYTES)
            printed += len(chunk)
            BUILD_LOG_BYTES.check(printed, place=f"the output of {what}")
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_BYTES or not chunk:
                lines, rest = [*lines, *([rest] if rest else [])], b""
            yield from (line.decode("utf-8", "replace") for line in lines)
            if not chunk:
                return
