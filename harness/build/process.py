"""Running the programs a build consists of: logged, bounded in time, never left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.errors import InfraError


def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    limit: float,
    on_line: Callable[[str], None] = lambda line: None,
    env: dict[str, str] | None = None,
) -> tuple[int, list[str]]:
    """Run `command`, append its output to `log`, hand each line to `on_line`.

    Returns its exit code and the last 20,000 lines of output. Raises InfraError after `limit` seconds or where
    the program is missing. The whole process group is ended on any exception, and by the kernel when we die.
    """
    with log.open("a", encoding="utf-8", errors="replace") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        try:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C", **(env or {})},
                start_new_session=True,
            )
        except FileNotFoundError:
            raise InfraError(f"{command[0]}: can't be started; `harness doctor` tells what is missing") from None
        lines: deque[str] = deque(maxlen=20_000)
        try:
            for line in _lines(process, limit=limit, what=command[0]):
                out.write(line + "\n")
                lines.append(line)
                on_line(line)
            return process.wait(), list(lines)
        finally:
            _end_group(process)


def _lines(process: subprocess.Popen[bytes], *, limit: float, what: str) -> Iterator[str]:
    """Every line that `process` prints, until its output ends."""
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


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10.0)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
