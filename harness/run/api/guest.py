"""The booted kernel for a test: monitored commands, reading and writing files, limits that fit the target."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import pytest

from harness.run.machine import Machine
from harness.run.stopped import Refused
from harness.target.base import Completed

T = TypeVar("T")

_LEAST_S = 10.0  # seconds that any wait may take at least
_FIRST_STEP_S = 0.02  # seconds between the first two polls for a state that has no event
_LAST_STEP_S = 0.1  # and between later ones

_OF_THE_KERNEL = ("/sys/", "/proc/")  # its files: an error there is the kernel's answer

_NUMBER = re.compile(r"(?P<sign>-?)(?:0x)?(?P<digits>[0-9a-fA-F]{1,19})")


def number(text: str, what: str, *, base: int = 10) -> int:
    """The number in `text`, which the target printed as `what`. What is none, or has more digits than any that the
    kernel prints, is the kernel's fault: the test fails."""
    found = _NUMBER.fullmatch(text.strip())
    try:
        assert found
        return int(found["sign"] + found["digits"], base)
    except (AssertionError, ValueError):
        raise AssertionError(f"{what}: expected a number, found {text[:80]!r}") from None


class Guest:
    """Commands on the booted target. All `seconds` are those of reference hardware; the machine scales them to the
    target (and by the user's --timeout-factor)."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.used_up = ""

    def use_up(self, why: str) -> None:
        """Tell that the test leaves the kernel as no test can put it right again: the next test gets a fresh target,
        and what this one leaves behind is not looked for."""
        self.used_up = why

    def once(self, key: object, find: Callable[[], T]) -> T:
        """The result of `find`, which is called once per booted target: for what does not change until the next
        boot."""
        known = self._machine.remembered
        if key not in known:
            known[key] = find()
        return cast(T, known[key])

    def once_at_start(self, key: object, find: Callable[[], T]) -> T:
        """Like `once`; when called on a target that no earlier test has used, the result is valid for all targets
        restored from the same snapshot."""
        known = self._machine.at_start if self._machine.is_fresh else self._machine.remembered
        if key not in known:
            known[key] = find()
        return cast(T, known[key])

    @property
    def cpus(self) -> int:
        """The number of CPUs that are online."""
        return number(self.check("nproc"), "nproc")

    def need_cpus(self, count: int) -> None:
        """Skip the test if fewer CPUs than `count` are online."""
        if (found := self.cpus) < count:
            pytest.skip(f"needs {count} CPUs, this target has {found}")

    def run(self, command: str, *, seconds: float = 5.0) -> Completed:
        """Run a shell command line; a non-zero exit is data. Kernel reports and hangs end the test."""
        return self._machine.run(command, timeout=max(_LEAST_S, self._machine.scaled(seconds)))

    def check(self, command: str, *, seconds: float = 5.0) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(command, seconds=seconds)
        assert done.ok, _told(done)
        return done.output

    def read(self, path: str) -> str:
        """The text of a file. An error is the kernel's refusal where `path` is one of its files, and is there."""
        return self._ask(f"cat {shlex.quote(path)}", path)

    def line(self, path: str) -> str:
        """The first line of a file. This starts no process, so it costs a fifth of `read`."""
        return self._ask(f'read -r line < {shlex.quote(path)} && echo "$line"', path).strip()

    def write(self, path: str, text: str, *, append: bool = False) -> None:
        """Write text and a line end to a file, in one write(2), as tracefs requires. An error is the kernel's refusal
        where `path` is one of its files, and is there."""
        self._ask(f"printf '%s\\n' {shlex.quote(text)} {'>>' if append else '>'} {shlex.quote(path)}", path)

    def make_directory(self, path: str) -> None:
        """Make a directory. An error is the kernel's refusal where that is to be in one of its own, which is there."""
        self._ask(f"mkdir {shlex.quote(path)}", path.rpartition("/")[0])

    def _ask(self, command: str, path: str) -> str:
        """Do what `check` does, for a command that asks something of `path`. Raises Refused if that is there, and the
        kernel's: it has the feature, and does not do what it should. Where it is not, the test lacks something."""
        done = self.run(command)
        if not done.ok and path.startswith(_OF_THE_KERNEL) and self.exists(path):
            raise Refused(_told(done))
        assert done.ok, _told(done)
        return done.output

    @contextlib.contextmanager
    def value(self, path: str, value: str) -> Iterator[None]:
        """Change the value of a file for the duration of the ``with``."""
        before = self.read(path).strip()
        self.write(path, value)
        try:
            yield
        finally:
            self.write(path, before)

    def exists(self, path: str) -> bool:
        return self.run(f"[ -e {shlex.quote(path)} ]").ok

    def wait_until(self, condition: Callable[[], bool], what: str, *, seconds: float = 5.0) -> None:
        """Poll until `condition` holds. The test fails if it does not within `seconds`, or ten real seconds if that is
        longer: what the kernel does once a second takes as long on fast hardware."""
        assert self.comes_true(condition, seconds=seconds), f"waited in vain for: {what}"

    def comes_true(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Poll as `wait_until` does; returns whether `condition` holds in the end."""
        deadline = time.monotonic() + max(_LEAST_S, self._machine.scaled(seconds))
        step = _FIRST_STEP_S
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(step)
            step = min(2 * step, _LAST_STEP_S)
        return True


def _told(done: Completed) -> str:
    """What became of a command, for a message."""
    return f"`{done.command}` ended with exit code {done.returncode}: {done.output.strip()[-500:]}"
