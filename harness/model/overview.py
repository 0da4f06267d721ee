"""What the history's pages are made of: which part of the history is asked about, and the answers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model.history import Cell, Outcome, StoredRun
from harness.model.result import Verdict


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A part of the history: the runs that began from `since` up to `until` (seconds since the epoch), of the cells
    with this board, configuration and toolchain, if they are not empty. `kernel` is contained in the release, the
    version, the source or the commit of each."""

    since: float = 0.0
    until: float = 1e12
    board: str = ""
    config: str = ""
    toolchain: str = ""
    kernel: str = ""


@dataclass(frozen=True, kw_only=True)
class CountedRun:
    """A run and how many results of each verdict it has; verdicts that do not occur are missing."""

    run: StoredRun
    counts: Mapping[Verdict, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """How many tests blame the kernel."""
        return sum(count for verdict, count in self.counts.items() if verdict.is_kernel_fault)

    @property
    def errors(self) -> int:
        """How many results blame the harness or the lab."""
        return sum(count for verdict, count in self.counts.items() if verdict.is_infra_fault)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One result, and the run that it is of."""

    run: StoredRun
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class SeenSignature:
    """How often a fault was seen: in how many results, tests, cells and kernels; when first and last."""

    text: str
    results: int
    tests: int
    cells: int
    kernels: int
    first: float
    last: float


@dataclass(frozen=True, kw_only=True)
class SeenTest:
    """A test's results in a part of the history."""

    name: str
    results: int
    failures: int
    last_failure: float | None = None


@dataclass(frozen=True, kw_only=True)
class BoardNight:
    """What one board did on one day (days since the epoch, UTC). `boots`: how many seconds it took to boot in each run
    that booted it, in the median of that run."""

    day: int
    results: int = 0
    errors: int = 0
    crashes: int = 0
    boots: tuple[float, ...] = ()

    @property
    def boot_s(self) -> float | None:
        return statistics.median(self.boots) if self.boots else None


@dataclass(frozen=True, kw_only=True)
class BoardHealth:
    """What a board did: `runs` of it, of which so many were `complete` and `not_booted`; its results by day. `board` is
    one board of a pool, where the runs say which."""

    board: str
    runs: int
    complete: int
    not_booted: int
    nights: tuple[BoardNight, ...] = ()

    @property
    def results(self) -> int:
        return sum(night.results for night in self.nights)

    @property
    def errors(self) -> int:
        return sum(night.errors for night in self.nights)

    @property
    def boot_s(self) -> float | None:
        """The median of its boots in seconds; None if there are none."""
        times = [seconds for night in self.nights for seconds in night.boots]
        return statistics.median(times) if times else None

    @property
    def share_of_errors(self) -> float:
        return self.errors / self.results if self.results else 0.0

    @property
    def not_ended(self) -> int:
        """How many runs were booted and did not end."""
        return self.runs - self.complete - self.not_booted

    @property
    def crashes(self) -> int:
        return sum(night.crashes for night in self.nights)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the history has, to choose from: its cells, and when its newest run began (None: it has no runs; a run that
    claims to be of the future does not count, unless all do)."""

    cells: tuple[Cell, ...] = ()
    newest: float | None = None
