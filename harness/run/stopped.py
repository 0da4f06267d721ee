"""The exception that ends a test which can't go on."""

from __future__ import annotations

from harness.errors import CrashError, HarnessError, InfraError
from harness.model.outcome import Outcome

_LINES = 40  # of a kernel report, its last ones, in an error message


class Stopped(Exception):
    """A test can't go on, because of what `outcome` says."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome

    def as_error(self, *, when: str = "") -> HarnessError:
        """The same for who runs no test: CrashError or InfraError; `when` it happened comes first."""
        outcome = self.outcome
        kind = CrashError if outcome.verdict.is_kernel_fault else InfraError
        message = f"{when}: {outcome.reason}" if when else outcome.reason
        return kind(message, details=outcome.fault.lines[-_LINES:] if outcome.fault else ())
