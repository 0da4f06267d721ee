"""The harness command, for tests that call it often: each call is forked from a process that has imported it already.

What a call does to its process is seen by that call alone, as if Python had been started for it. What is imported when
is not tested by this, nor is what a module reads from the environment while it is imported.

Run as a program it reads a line of JSON for each call and answers with a line that says how the call ended.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LIMIT_S = 60.0
_SLOW_TO_IMPORT = (
    *("pytest", "harness.boards.inventory", "harness.campaign.history", "harness.campaign.local"),
    *("harness.campaign.machine", "harness.campaign.mutants", "harness.display"),
)


def harness(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `cwd`, with a cache of its own there; returns what subprocess.run does."""
    words = ["harness", *arguments]
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "stdout"), Path(directory, "stderr")
        call = {
            "words": words,
            "cwd": str(cwd),
            "environment": {**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), **environment},
            "files": [os.devnull, str(out), str(err)],
        }
        code = _ended(call)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _ended(call: dict[str, Any]) -> int:
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(call) + "\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], _LIMIT_S)[0]:
        _server.cache_clear()
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        raise subprocess.TimeoutExpired(call["words"], _LIMIT_S)
    return int(server.stdout.readline())


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for each process that runs tests; it ends when its standard input does."""
    words = [sys.executable, "-m", "tests.command"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(words, **pipes, cwd=ROOT, start_new_session=True)
    atexit.register(_end, server, os.getpid())
    return server


def _end(server: subprocess.Popen[str], parent: int) -> None:
    if os.getpid() == parent:  # and not a process that a test has forked
        server.communicate()


def main() -> None:
    from harness.cli.main import cli

    for module in _SLOW_TO_IMPORT:
        importlib.import_module(module)
    for verb in cli.commands:
        cli.commands[verb]
    gc.freeze()
    for line in sys.stdin:
        if not (child := os.fork()):
            _become(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(*, words: list[str], cwd: str, environment: dict[str, str], files: list[str]) -> None:
    """Go on as the command."""
    from harness.cli.main import main as command

    for number, file in enumerate(files):
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    try:
        command()
    except SystemExit as end:
        # taking down all that was imported costs more than most calls
        os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
