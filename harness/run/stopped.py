"""The exceptions that end a test which can't continue."""

from __future__ import annotations

from harness.errors import CrashError, HarnessError, InfraError
from harness.model.outcome import Outcome

_LINES = 40  # the last lines of a kernel report that an error message shows


class Refused(AssertionError):
    """The kernel does not do what it should: take a module, or a value in a file of its own, or end a transition. The
    test fails, even if it has not begun yet."""


class Stopped(Exception):
    """A test can't continue; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome

    def as_error(self, *, when: str = "") -> HarnessError:
        """The same for callers that run no test: a CrashError or an InfraError, whose message begins with `when`."""
        outcome = self.outcome
        kind = CrashError if outcome.verdict.is_kernel_fault else InfraError
        message = f"{when}: {outcome.reason}" if when else outcome.reason
        return kind(message, details=outcome.fault.lines[-_LINES:] if outcome.fault else ())
