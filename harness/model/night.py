"""A night: what its plan asks for, the cells that this makes, and what became of them."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import EXIT_INFRA, EXIT_KERNEL, EXIT_OK, EXIT_USER
from harness.model.comparison import Comparison
from harness.model.names import as_name
from harness.model.prebuilt import names_prebuilt

_LONGEST_PART = 30  # a file's name has at most 255 bytes
NONE = "-"  # the toolchain and the configuration of a kernel that others built
AXES = ("kernel", "toolchain", "configuration", "board", "suites")


def _hash(told: object) -> str:
    """16 digits: repetitions differ in nothing else, and there may be a hundred thousand cells."""
    return hashlib.sha256(repr(told).encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class PlannedKernel:
    """A kernel as the plan names it: its source as for ``--kernel``, and paths of patches as for ``--patches``."""

    name: str
    source: str
    patches: tuple[str, ...] = ()

    @property
    def is_built(self) -> bool:
        """Whether others built it: neither toolchains nor configurations apply to it."""
        return names_prebuilt(self.source)


@dataclass(frozen=True, kw_only=True)
class PlannedTests:
    """Tests that run together: names as for ``--suite`` (none: all suites), and an expression as for ``-k``."""

    name: str
    suites: tuple[str, ...] = ()
    keyword: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a cell is run. `repetitions`: how many runs of it; `priority`: higher ones come first; `timeout_factor` and
    `workers`: as for ``harness run``."""

    repetitions: int = 1
    priority: int = 0
    timeout_factor: float = 1.0
    workers: int = 1


@dataclass(frozen=True, kw_only=True, order=True)
class Slot:
    """The place of a cell in a plan, by the names that the plan uses. Night after night the same slot has other cells,
    because kernels move. `repetition`: from 1."""

    kernel: str
    toolchain: str
    configuration: str
    board: str
    suites: str
    repetition: int = 1

    def __str__(self) -> str:
        parts = [getattr(self, axis) for axis in AXES]
        return "/".join([*parts, *([f"#{self.repetition}"] if self.repetition > 1 else [])])

    @property
    def is_built(self) -> bool:
        """Whether others built its kernel."""
        return self.toolchain == NONE

    @property
    def directory(self) -> str:
        """The name of its directory, which no other slot has; of long names only the ends are in it."""
        parts = [as_name(getattr(self, axis), longest=_LONGEST_PART) for axis in AXES]
        return "~".join([*parts, _hash([getattr(self, axis) for axis in AXES] + [self.repetition])])


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What an entry of `exclude`, `include` or `overrides` says: which slots it means (by axis, the names; an axis that
    is missing means all), and for `overrides` the settings that are different there."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changed: Mapping[str, float] = field(default_factory=dict)

    def means(self, slot: Slot) -> bool:
        return all(getattr(slot, axis) in names for axis, names in self.names.items())

    def applied(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, **self.changed)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan. `budget`: seconds from the beginning of a night, after which nothing is begun; None: no limit.
    `configurations`: fragments by name, as for ``--kconfig``. `boards`: names of boards or pools."""

    name: str
    kernels: Mapping[str, PlannedKernel]
    boards: tuple[str, ...]
    toolchains: tuple[str, ...] = ("gcc",)
    configurations: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"default": ()})
    suites: Mapping[str, PlannedTests] = field(default_factory=lambda: {"all": PlannedTests(name="all")})
    defaults: Settings = Settings()
    exclude: tuple[Rule, ...] = ()
    include: tuple[Rule, ...] = ()
    overrides: tuple[Rule, ...] = ()
    budget: float | None = None

    def slots(self) -> dict[Slot, Settings]:
        """Return all slots with their settings: the product of all axes (of a kernel that others built, without
        toolchains and configurations), without what `exclude` means and `include` does not."""
        return {
            dataclasses.replace(slot, repetition=number): settings
            for slot, settings in self.placed()
            for number in range(1, settings.repetitions + 1)
        }

    def placed(self) -> Iterator[tuple[Slot, Settings]]:
        """Yield all slots, without their repetitions."""
        for kernel, toolchain, configuration, board, suites in self._combinations():
            slot = Slot(kernel=kernel, toolchain=toolchain, configuration=configuration, board=board, suites=suites)
            is_excluded = any(rule.means(slot) for rule in self.exclude)
            if is_excluded and not any(rule.means(slot) for rule in self.include):
                continue
            settings = self.defaults
            for rule in self.overrides:
                settings = rule.applied(settings) if rule.means(slot) else settings
            yield slot, settings

    def _combinations(self) -> Iterator[tuple[str, ...]]:
        """Each kernel with everything that applies to it."""
        for name, kernel in self.kernels.items():
            how = ((NONE,), (NONE,)) if kernel.is_built else (self.toolchains, self.configurations)
            yield from itertools.product((name,), *how, self.boards, self.suites)

    def asked(self, slot: Slot, settings: Settings) -> str:
        """Return a hash of what the plan says about a slot, apart from how often and when it comes."""
        kernel, tests = self.kernels[slot.kernel], self.suites[slot.suites]
        how = (settings.timeout_factor, settings.workers)
        return _hash(
            [
                kernel.source,
                kernel.patches,
                self.configurations.get(slot.configuration),
                tests.suites,
                tests.keyword,
                how,
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a night, a value: everything that it depends on. `build`: the key of its build. `candidates`: the
    boards that may run it, which are equal. `identity`: a hash of all inputs: of two cells with the same one, either
    can stand for the other. `asked`: a hash of what the plan said (Plan.asked)."""

    slot: Slot
    identity: str
    asked: str = ""
    build: str
    tests: PlannedTests
    settings: Settings = Settings()
    candidates: tuple[str, ...]


class State(enum.StrEnum):
    """What became of a cell. The first four are done; the others come first in the next night."""

    TESTED = "tested"
    NOT_BUILT = "not built"
    REFUSED = "wrong input"
    UNAVAILABLE = "not available"
    NO_RESULT = "without result"
    NOT_RUN = "not run"

    @property
    def is_done(self) -> bool:
        return self in (State.TESTED, State.NOT_BUILT, State.REFUSED, State.UNAVAILABLE)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a cell. `identity`: empty if its kernel could not be determined; `asked`: as of the cell, empty if
    it is not known. `code`: the exit code of its run. `seconds`: of the run; `build_seconds`: of its build, whenever
    that was made. `run`: the id of the run. `reason`: why there are no results. `attempts`: what failed before,
    each with its board and the reason. `owed`: in how many nights in a row it was not done."""

    slot: Slot
    state: State
    identity: str = ""
    asked: str = ""
    code: int = 0
    board: str = ""
    seconds: float = 0.0
    build_seconds: float | None = None
    run: str = ""
    reason: str = ""
    attempts: tuple[str, ...] = ()
    owed: int = 0

    @property
    def is_good(self) -> bool:
        """Whether later nights can be compared with it."""
        return self.state is State.TESTED and self.code == 0

    @property
    def is_measure(self) -> bool:
        """Whether its run shows how long one takes: it came to its own end with all tests."""
        return self.state is State.TESTED and not self.reason and self.seconds > 0


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night on record. `started`, `finished`: seconds since the epoch; `finished` is None as long as it may go on.
    `ended`: of each slot, what became of it; complete only if it is finished."""

    id: str
    plan: str = ""
    started: float = 0.0
    budget: float | None = None
    finished: float | None = None
    ended: Mapping[Slot, Ended] = field(default_factory=dict)

    @property
    def deadline(self) -> float | None:
        return None if self.budget is None else self.started + self.budget


@dataclass(frozen=True, kw_only=True)
class BoardHealth:
    """Whether a board can be trusted. `failures`: in how many runs in a row it failed, through no fault of the kernel;
    `reason`: of the last one. `since`: since when it is in quarantine (seconds since the epoch); None: it is not."""

    failures: int = 0
    since: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What earlier nights know of a slot. `identity`: of its latest cell that was done; `nights_ago`: when that was (1:
    last night; None: never). `owed`: in how many nights in a row it was not done; `late`: in how many it was not even
    begun. `good`: the id of its run in its last good night. `seconds`, `build_seconds`: how long run and build took
    last; None: unknown."""

    identity: str = ""
    nights_ago: int | None = None
    owed: int = 0
    late: int = 0
    good: str = ""
    seconds: float | None = None
    build_seconds: float | None = None


def seen(nights: Sequence[Night]) -> dict[Slot, Seen]:
    """Return what `nights`, the latest first, know of each slot."""
    return {slot: _seen(slot, nights) for slot in dict.fromkeys(slot for night in nights for slot in night.ended)}


def _seen(slot: Slot, nights: Sequence[Night]) -> Seen:
    of_slot = [(ago, night.ended[slot]) for ago, night in enumerate(nights, 1) if slot in night.ended]
    done = [(ago, end) for ago, end in of_slot if end.state.is_done]
    tested = [end for _, end in done if end.state is State.TESTED]
    measured = [end for end in tested if end.is_measure]
    late = itertools.takewhile(lambda end: end.state is State.NOT_RUN, (end for _, end in of_slot))
    latest = of_slot[0][1]
    return Seen(
        identity=done[0][1].identity if done else "",
        nights_ago=done[0][0] if done else None,
        owed=0 if latest.state.is_done else latest.owed,
        late=sum(1 for _ in late),
        good=next((end.run for end in tested if end.is_good and end.run), ""),
        seconds=measured[0].seconds if measured else None,
        build_seconds=next((end.build_seconds for end in tested if end.build_seconds is not None), None),
    )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How many seconds a cell probably takes; None: nothing is known. `build` is 0 if the build is there."""

    build: float | None = None
    test: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A cell on the summary page. `comparison`: with its last good night, if there was one. `counts`: of its tests
    by verdict; `changes`: by class of change. `page`, `report`: relative addresses of the comparison and of the run's
    report; empty if there are none."""

    ended: Ended
    comparison: Comparison | None = None
    counts: str = ""
    changes: str = ""
    page: str = ""
    report: str = ""

    @property
    def is_worse(self) -> bool:
        return bool(self.comparison and self.comparison.regressions)


@dataclass(frozen=True, kw_only=True)
class Morning:
    """What is told of a night that is over. `boards`: what there is to say about boards, such as a quarantine; `notes`:
    about the night as a whole."""

    night: Night
    rows: tuple[Row, ...]
    boards: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def where(self, state: State) -> Iterator[Row]:
        return (row for row in self.rows if row.ended.state is state)

    @property
    def exit_code(self) -> int:
        """1: a kernel does not build, does not pass, or is worse than in its last good night; otherwise 2: a cell could
        not be built as it was asked for; otherwise 3: the lab left cells without results; otherwise 0. That the time
        was too short is no failure, nor that a kernel or compiler can't have a configuration."""
        ends = [row.ended for row in self.rows]
        if any(row.is_worse for row in self.rows) or any(
            end.state is State.NOT_BUILT or (end.state is State.TESTED and end.code == EXIT_KERNEL) for end in ends
        ):
            return EXIT_KERNEL
        if any(end.state is State.REFUSED for end in ends):
            return EXIT_USER
        gaps = any(end.state is State.NO_RESULT or (end.state is State.TESTED and end.code) for end in ends)
        return EXIT_INFRA if gaps else EXIT_OK
