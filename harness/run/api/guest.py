"""The booted kernel as a test sees it: commands under watch, files read and written, limits that fit the target."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from harness.run.machine import Machine
from harness.target.base import Completed

T = TypeVar("T")

_LEAST_S = 10.0  # the shortest limit of any wait
_FIRST_STEP_S = 0.02  # between the first two polls of a state that has no event
_LAST_STEP_S = 0.1  # between later polls


class Guest:
    """Commands on the booted target. `seconds` everywhere are those of reference hardware; the machine makes them the
    target's (and the user's: --timeout-factor)."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def once(self, key: object, find: Callable[[], T]) -> T:
        """What `find` returns, asked once for each booted target: for what stays as it is until the next boot."""
        known = self._machine.remembered
        if key not in known:
            known[key] = find()
        return cast(T, known[key])

    def once_at_start(self, key: object, find: Callable[[], T]) -> T:
        """Like `once`; asked of a target that no earlier test has used, it holds for all that start from the same
        snapshot."""
        known = self._machine.at_start if self._machine.is_fresh else self._machine.remembered
        if key not in known:
            known[key] = find()
        return cast(T, known[key])

    @property
    def cpus(self) -> int:
        """How many CPUs it has online."""
        return int(self.check("nproc"))

    def run(self, command: str, *, seconds: float = 5.0) -> Completed:
        """Run a shell command line; a non-zero exit is data. Kernel reports and hangs end the test."""
        return self._machine.run(command, timeout=max(_LEAST_S, self._machine.scaled(seconds)))

    def check(self, command: str, *, seconds: float = 5.0) -> str:
        """Run a command that has to succeed, and return its output."""
        done = self.run(command, seconds=seconds)
        assert done.ok, f"`{command}` ended with exit code {done.returncode}: {done.output.strip()[-500:]}"
        return done.output

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.check(f"cat {shlex.quote(path)}")

    def line(self, path: str) -> str:
        """The first line of a file. No process is started for it, so it costs a fifth of `read`."""
        return self.check(f'read -r line < {shlex.quote(path)} && echo "$line"').strip()

    def write(self, path: str, text: str, *, append: bool = False) -> None:
        """Write text and a line end into a file, in one write(2), as tracefs wants it."""
        self.check(f"printf '%s\\n' {shlex.quote(text)} {'>>' if append else '>'} {shlex.quote(path)}")

    @contextlib.contextmanager
    def value(self, path: str, value: str) -> Iterator[None]:
        """Another value in a file for the length of the ``with``."""
        before = self.read(path).strip()
        self.write(path, value)
        try:
            yield
        finally:
            self.write(path, before)

    def exists(self, path: str) -> bool:
        return self.run(f"[ -e {shlex.quote(path)} ]").ok

    def wait_until(self, condition: Callable[[], bool], what: str, *, seconds: float = 5.0) -> None:
        """Look until `condition` holds; the test fails when it does not within `seconds`, or ten real ones where that
        is longer: what the kernel does once a second takes as long on fast hardware."""
        deadline = time.monotonic() + max(_LEAST_S, self._machine.scaled(seconds))
        step = _FIRST_STEP_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for: {what}"
            time.sleep(step)
            step = min(2 * step, _LAST_STEP_S)
