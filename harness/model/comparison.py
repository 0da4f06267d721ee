"""What changed between two runs, test by test."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.model.history import Outcome, StoredRun


class Change(enum.StrEnum):
    """The class of a test's change. The order is that of reports: what people act on comes first."""

    NEW_FAILURE = "new failure"
    FLAKIER = "flakier"
    VANISHED = "vanished"
    STILL_FAILING = "still failing"
    FLAKY = "flaky"
    SKIPPED_NOW = "skipped now"
    SLOWER = "slower"
    INFRASTRUCTURE = "infrastructure"
    KNOWN = "known"
    FIXED = "fixed"
    APPEARED = "appeared"
    SAME = "same"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many passes and failures."""

    passes: int = 0
    failures: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(passes=self.passes + other.passes, failures=self.failures + other.failures)

    @property
    def runs(self) -> int:
        return self.passes + self.failures

    def __str__(self) -> str:
        return f"{self.failures} of {self.runs}"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One test's change, and the evidence for it.

    `before`, `since`: passes and failures with the older side's kernels and with the newer side's. `probability`: that
    it fails more often now than before. `last_good`, `first_bad`: ids of runs; empty if there is none. `note`: what
    else is worth a line."""

    test: str
    change: Change
    old: Outcome | None = None
    new: Outcome | None = None
    before: Tally = Tally()
    since: Tally = Tally()
    probability: float = 0.0
    last_good: str = ""
    first_bad: str = ""
    note: str = ""

    @property
    def is_likely_regression(self) -> bool:
        """Whether it should fail a job: the kernel is more likely than not to have become worse."""
        return self.change in (Change.NEW_FAILURE, Change.FLAKIER) and self.probability >= 0.5


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs compared; `changes` has every test of either, in the order of `Change` and then of the newer run."""

    old: StoredRun
    new: StoredRun
    changes: tuple[Changed, ...] = ()

    def of(self, change: Change) -> tuple[Changed, ...]:
        """The tests of one class."""
        return tuple(changed for changed in self.changes if changed.change is change)

    @property
    def regressions(self) -> tuple[Changed, ...]:
        """What is likely a regression."""
        return tuple(changed for changed in self.changes if changed.is_likely_regression)
