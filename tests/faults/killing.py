"""Kills a process at every step of its work: at each operation on files below a directory, or on a lock.

Run as a program, so that the processes that are killed are forked from one in which everything is imported and no other
thread runs: `python -m tests.faults.killing WORK SIGNAL DIRECTORY FIRST STRIDE`, where WORK is one of WORKS. It prints,
for each step, a line of JSON: {"step": 3, "what": "write events.jsonl", "status": -9}; the directory of that step is
DIRECTORY/3.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.faults.disk import Disk, mounted

ROOT = Path(__file__).parents[2]
_MOST = 200


class Killing(Disk):
    """Sends this process `number` when operation `at` (from 1) has been done; `what` is told to `say`."""

    def __init__(self, root: Path, *, at: int, number: int, say: Callable[[str], None]) -> None:
        super().__init__(root)
        self._at = at
        self._number = number
        self._say = say
        self._done = 0

    def _step(self, what: str) -> None:
        self._done += 1
        if self._done == self._at:
            self._say(what)
            os.kill(os.getpid(), self._number)

    def wrote(self, path: Path, offset: int, data: bytes) -> None:
        self._step(f"write {path.name}")

    def synced(self, path: Path) -> None:
        self._step(f"sync {path.name}")

    def changed(self, what: str, paths: tuple[Path, ...]) -> None:
        self._step(f"{what} {paths[0].name}")


def _a_run(directory: Path) -> int:
    from tests.fakerun import fake_build, fake_run

    return fake_run(fake_build(directory / "build"), directory / "run")[1]


def _a_lock(directory: Path) -> int:
    from harness.target.holding import lock

    os.environ["HARNESS_LOCKS"] = str(directory / "run")
    with lock.acquired("b", "command x", purpose="to be killed"):
        return 0


def _a_submission(directory: Path) -> int:
    """Two documents for the server of the test, each step at an address of its own."""
    from harness.publish.kcidb import KcidbServer
    from harness.publish.queue import Queue

    queue = Queue(directory / "run")
    for document in SUBMISSIONS:
        queue.put(document)
    server = KcidbServer(url=f"{os.environ[SUBMIT_TO]}/{directory.name}")
    return 0 if queue.send(server.post).taken == len(SUBMISSIONS) else 1


def _a_night(directory: Path) -> int:
    """Two builds, three cells on two boards; a file outside of what is killed at says which runs came to their end."""
    from tests.fakenight import Lab

    lab = Lab(directory, plan=NIGHT, notes=directory / "tested")
    return lab.play()[0].exit_code


NIGHT = """
kernels: {stable: {kernel: 7.3.4}}
configurations: {default: [], size: [variants/size]}
boards: [one, farm]
suites: {ours: {suites: [testcases]}}
exclude: [{board: farm, configuration: size}]
"""
SUBMIT_TO = "HARNESS_TEST_SUBMIT_TO"
SUBMISSIONS = tuple(json.dumps({"tests": [{"id": f"lab:{number}"}]}).encode() for number in (1, 2))
WORKS: dict[str, Callable[[Path], int]] = {
    "run": _a_run,
    "lock": _a_lock,
    "submission": _a_submission,
    "night": _a_night,
}


def _as_the_command_does(work: Callable[[Path], int], directory: Path) -> int:
    """Do `work` with what `harness` does about signals and exceptions."""
    from harness.errors import HarnessError

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        return work(directory)
    except KeyboardInterrupt:
        return 130
    except HarnessError as error:
        return error.exit_code


def _checked_low_level(killing: Killing) -> None:
    """Lock files are written without Python's files."""
    for name in ("open", "pwrite", "ftruncate", "fchmod", "close"):
        real = getattr(os, name)

        def step(*given: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
            done = _real(*given, **more)
            killing._step(_name)
            return done

        setattr(os, name, step)


def main(work: str, number: int, directory: Path, first: int, stride: int) -> None:
    for module in ("tests.fakerun", "tests.fakenight", "harness.publish.kcidb"):  # once, before the forks
        __import__(module)
    if work == "run":
        _warm_up(directory / "0")
    for at in range(first, _MOST, stride):
        here = directory / str(at)
        (here / "run").mkdir(parents=True)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            killing = Killing(here / "run", at=at, number=number, say=partial(_tell, write))
            with mounted(killing):
                if work == "lock":
                    _checked_low_level(killing)
                code = _as_the_command_does(WORKS[work], here)
            os._exit(code)
        os.close(write)
        what = os.read(read, 1000).decode()
        os.close(read)
        _, status = os.waitpid(child, 0)
        if not what:
            return
        print(json.dumps({"step": at, "what": what, "status": os.waitstatus_to_exitcode(status)}), flush=True)


def _warm_up(directory: Path) -> None:
    """Have a whole run made, so that what is imported and compiled in one is there before the forks."""
    (directory / "run").mkdir(parents=True)
    WORKS["run"](directory)
    assert threading.active_count() == 1, "a fork has to be of a process without other threads"
    gc.collect()
    gc.freeze()


def _tell(pipe: int, what: str, write: Callable[[int, bytes], int] = os.write) -> None:
    write(pipe, what.encode())


def killed(work: str, number: int, directory: Path, *, first: int = 1, stride: int = 1) -> list[dict[str, Any]]:
    """Kill `work` at each of its steps (from `first` on, each `stride`-th); return what was printed about them."""
    words = [sys.executable, "-m", "tests.faults.killing", work, str(int(number)), str(directory)]
    words += [str(first), str(stride)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(directory / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
