"""A task held at the entry of a function of the kernel: time for a test in the middle of a fork, an exec, an insmod."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.run.api.guest import Guest, number
from harness.run.api.modules import Module
from harness.run.api.process import task_state
from harness.run.api.tracefs import Tracefs
from harness.run.stopped import Refused


class Hold(Module):
    """hold.c. The task sleeps in hold_sleep(), which a livepatch (klp_hold.c) can replace."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, "hold")

    @contextlib.contextmanager
    def at(self, function: str, *, comm: str) -> Iterator[None]:
        """Hold the next task with the name `comm` that calls `function`, one task only, until `release` or the end of
        the ``with``. Skips the test if this kernel has no such function, or can't trace it."""
        if self.refuses("at", f"{function} {comm}"):
            if not Tracefs(self._guest).can_trace(function):
                pytest.skip(f"this kernel has no {function}() that can be traced: no task can be held there")
            raise Refused(f"hold: the kernel refused to redirect {function}()")
        try:
            yield
        finally:
            self.release()

    def wait(self) -> int:
        """Wait until a task is held; its pid."""
        self._guest.wait_until(lambda: self.held > 0, "a task is held")
        pid = self.held
        self._guest.wait_until(lambda: task_state(self._guest, pid) in ("D", "I"), "the held task is asleep")
        return pid

    @property
    def held(self) -> int:
        """The pid of the task that is or was held; 0 if none came yet."""
        return number(self._guest.line(f"{self.files}/held"), "hold: held")

    def release(self) -> None:
        """Let the task go, wait until the function has returned, and take the hook away."""
        self.write("release")
