"""A search for the change that made a test fail: what it searches in, what it has tried, and its answer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.model.comparison import Tally
from harness.model.result import Result


class RangeKind(enum.StrEnum):
    """What lies between the good and the bad end."""

    GIT = "git"
    SERIES = "series"
    KCONFIG = "kconfig"
    TOOLCHAINS = "toolchains"
    QEMUS = "qemus"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What may be the culprit. `name`: a commit's hash, a patch's number, a symbol, a toolchain, a
    directory with a QEMU; `title`: what
    people know it by."""

    name: str
    title: str = ""

    def __str__(self) -> str:
        name = self.name[:12] if len(self.name) == 40 else self.name
        return f"{name} ({self.title})" if self.title else name


@dataclass(frozen=True, kw_only=True)
class Range:
    """Changes, and the states of the kernel that can be built. State 0 is the good end and carries no change; state n
    is the one that the change n-1 makes. `states` has what each carries, one bit for each change. The last is the bad
    end, which carries all."""

    kind: RangeKind
    good: str
    changes: tuple[Change, ...]
    states: tuple[int, ...]

    @property
    def bad_end(self) -> int:
        return len(self.states) - 1

    def name(self, state: int) -> str:
        return str(self.changes[state - 1]) if state else f"good end, {self.good}"


def line_of(kind: RangeKind, good: str, changes: tuple[Change, ...]) -> Range:
    """A range without branches: each state has one change more than the one before."""
    states = tuple((1 << count) - 1 for count in range(len(changes) + 1))
    return Range(kind=kind, good=good, changes=changes, states=states)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which test to repeat on restored machines, whatever its verdict is, until `enough` says so. It is asked before
    each repetition, with the test's result and the repetitions so far."""

    test: str
    enough: Callable[[Result], bool]


class Blame(enum.StrEnum):
    """What a kernel that does not build, or does not boot, counts as."""

    SKIP = "skip"
    BAD = "bad"


class Kind(enum.StrEnum):
    """The outcome of one repetition. OTHER: another failure than the one in question. NOTHING: it says nothing."""

    PASS = "pass"
    FAIL = "fail"
    OTHER = "other"
    NO_BOOT = "no boot"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One repetition. `failure`: what identifies a failure; `reason`: its first line."""

    kind: Kind
    failure: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried of one state. `tally`: how often the test passed, and how often it failed in the way in question;
    `other`: in another way, of which `others` tells the first. `skipped`: why it can't be tested. `is_bad`: settled
    without repetitions. `binaries`: the hash of what was built; `build`: its directory; `seconds`: what the build took,
    `repeating` what the repetitions took."""

    tally: Tally = field(default=Tally())
    other: int = 0
    others: str = ""
    skipped: str = ""
    is_bad: bool | None = None
    binaries: str = ""
    build: str = ""
    seconds: float = 0.0
    repeating: float = 0.0

    @property
    def is_usable(self) -> bool:
        return not self.skipped

    @property
    def is_open(self) -> bool:
        """Whether repetitions say something about it."""
        return self.is_usable and self.is_bad is None


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A search on the disk. `identity`: of the question; another one can't go on here. `failure`: what identifies the
    failure in question, once it was seen. `confirmed`: states whose repetitions at the end are over, with what those
    said; `reverted`: the bad end without the culprit."""

    identity: str
    failure: str = ""
    trials: Mapping[int, Trial] = field(default_factory=dict)
    confirmed: Mapping[int, Tally] = field(default_factory=dict)
    reverted: Trial | None = None


class Found(enum.StrEnum):
    """How a search ended."""

    CULPRIT = "found"
    SOME = "one of several, because what lies between them can't be tested"
    NOT_SURE = "not told apart"
    NOT_SEEN = "the failure was not seen at the bad end"
    BOTH_ENDS = "the good end fails as well"
    NO_SINGLE = "no single change explains it"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of what was tried. `probability`: that the state is bad."""

    state: int
    name: str
    trial: Trial
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found. `culprits`: the one change, or those among which it is; `probability`: that it is among
    them. `bad`, `good`: how often the test fails with and without it. `confirmed`: the culprit, and a state without it,
    tried again at the end; `reverted`: the bad end without the culprit, or `not_reverted`, why that was not tried."""

    found: Found
    test: str
    failure: str = ""
    culprits: tuple[Change, ...] = ()
    probability: float = 0.0
    bad: float = 0.0
    good: float = 0.0
    rows: tuple[Row, ...] = ()
    confirmed: tuple[tuple[str, Tally], ...] = ()
    reverted: Trial | None = None
    not_reverted: str = ""
    command: str = ""

    @property
    def exit_code(self) -> int:
        """0: the culprit was found; 1: it was not, and the kernels are why."""
        return 0 if self.found is Found.CULPRIT else 1
