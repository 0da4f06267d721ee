"""A review of a patch series: what each patch did, what the whole series did, and how it differs from an older
version."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import EXIT_INFRA, EXIT_KERNEL, EXIT_OK, EXIT_USER
from harness.model.comparison import Tally
from harness.model.result import Verdict


class Relation(enum.StrEnum):
    """How the patches of two versions are related, with range-diff's signs."""

    SAME = "="
    CHANGED = "!"
    DROPPED = "<"
    ADDED = ">"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A patch in both versions, by its numbers (from 1); None where that version does not have it."""

    older: int | None
    newer: int | None
    relation: Relation


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Tests of one run: suites (none: all) and an expression for -k. `why`: what made them matter, for people; empty:
    they were asked for. The same tests are equal, whatever made them matter."""

    __test__ = False  # it is none of pytest's

    suites: tuple[str, ...] = ()
    keyword: str = ""
    why: tuple[str, ...] = field(default=(), compare=False)

    def covers(self, other: TestSet) -> bool:
        """Whether all tests of `other` are among these."""
        if self.keyword not in ("", other.keyword):
            return False
        if not self.suites:
            return True
        return bool(other.suites) and all(
            any(suite == ours or suite.startswith(f"{ours}/") for ours in self.suites) for suite in other.suites
        )

    def __str__(self) -> str:
        words = [" ".join(self.suites) or "all suites", *([f"-k '{self.keyword}'"] if self.keyword else [])]
        return " ".join(words)


class Stage(enum.StrEnum):
    """What a patch has to do, in this order."""

    APPLIES = "applies"
    CONFIGURES = "configures"
    BUILDS = "builds"
    BOOTS = "boots"
    PASSES = "passes"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A test that fails. `title`: a kernel report's, or the reason; `evidence`: at most two lines; `repeated`: what
    repetitions showed."""

    test: str
    verdict: Verdict
    title: str
    evidence: tuple[str, ...] = ()
    repeated: str = ""


@dataclass(frozen=True, kw_only=True)
class PatchStep:
    """One patch on top of those before it.

    `reached`: the last stage that was passed (None: it does not apply); `failed`: the stage that was not, with the
    `problem` and its `details`. `untested`: why it was not tested by itself; `pending`: why a stage is not known (the
    lab failed). `warnings`: the compiler's that its parent does not have. `sets`, `counts`: the tests that matter for
    it, and their verdicts. `failures`: of tests that do not fail in this way before it."""

    number: int
    title: str
    reached: Stage | None = None
    failed: Stage | None = None
    problem: str = ""
    details: tuple[str, ...] = ()
    untested: str = ""
    pending: str = ""
    warnings: tuple[str, ...] = ()
    sets: tuple[TestSet, ...] = ()
    counts: Mapping[Verdict, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong with it, as far as it was tried."""
        return self.failed is None and not (self.warnings or self.failures or self.pending)


class Kind(enum.StrEnum):
    """What a difference is about; NEW is worse than the base (and than the older version, if there is one)."""

    NEW = "new"
    BOTH = "in both versions"
    FIXED = "fixed"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A failure that not all kernels have.

    `patch`: since which patch, a number in the newer version (of what is fixed: in the older one); None: that could not
    be found out, for the reason in `doubt`. `pair`: the number of its counterpart in the other version. `tallies`: how
    the test ended with each kernel, by the kernel's name."""

    kind: Kind
    failure: Failure
    patch: int | None = None
    pair: int | None = None
    doubt: str = ""
    tallies: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a kernel: bytes of code and of everything that is loaded, records of function entries and functions."""

    text: int
    loaded: int
    records: int
    functions: int


@dataclass(frozen=True, kw_only=True)
class SeriesName:
    """A series: its first patch's title, version (as ``v2``; empty: not known) and number of patches. `origin`: as it
    was named on the command line."""

    title: str
    version: str = ""
    patches: int = 0
    origin: str = ""

    def __str__(self) -> str:
        more = f" and {self.patches - 1} more" if self.patches > 1 else ""
        return f'"{self.title}"{more}{f" ({self.version})" if self.version else ""}'


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a series was tested on: the base as given and its version, and why it is that one; the board, compiler and
    configuration; the harness."""

    base: str
    version: str
    why: str = ""
    board: str = ""
    compiler: str = ""
    fragments: tuple[str, ...] = ()
    harness: str = ""


@dataclass(frozen=True, kw_only=True)
class Review:
    """The whole review. `pairs`: of the older version's patches and the newer one's; `how_paired`: by what.
    `whole`: the set of the whole series, and `counts` its verdicts for each kernel, by its name; `failing_before`:
    tests that fail with the base, too; `lost`: tests that pass with the base and say nothing with the series.
    `problems`: what the host or the lab failed at. `command`: words that run the newer series' tests."""

    series: SeriesName
    ground: Ground
    steps: tuple[PatchStep, ...]
    older: SeriesName | None = None
    pairs: tuple[Pair, ...] = ()
    how_paired: str = ""
    whole: TestSet = TestSet()
    counts: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)
    failing_before: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    sizes: tuple[Size, Size] | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0

    def of(self, kind: Kind) -> tuple[Difference, ...]:
        """The differences of one kind."""
        return tuple(each for each in self.differences if each.kind is kind)

    @property
    def is_well(self) -> bool:
        """Whether everything was tried, and nothing is wrong with the series."""
        return self.exit_code == EXIT_OK and not self.lost

    @property
    def older_name(self) -> str:
        """What the older version is called."""
        version = self.older.version if self.older else ""
        return version if version and version != self.series.version else "the older version"

    @property
    def exit_code(self) -> int:
        """0: all is well; 1: the series has a fault; 2: it does not apply; 3: the host or the lab kept us from knowing,
        and no fault was seen."""
        if any(step.failed is Stage.APPLIES for step in self.steps):
            return EXIT_USER
        has_fault = any(step.failed or step.warnings or step.failures for step in self.steps)
        if has_fault or self.of(Kind.NEW) or self.of(Kind.BOTH):
            return EXIT_KERNEL
        return EXIT_INFRA if self.problems or any(step.pending for step in self.steps) else EXIT_OK
