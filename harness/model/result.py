"""Verdicts and results: what a run finds out, and what documents are made from."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.model.fault import Fault
from harness.model.record import RunRecord


class Verdict(enum.StrEnum):
    """The outcome of one test.

    CRASH and TIMEOUT blame the kernel, ERROR the harness or the lab. XFAIL is a failure that was expected, by the test
    itself or by testcases/expectations.yaml. NOTRUN: planned, but never started.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"
    XFAIL = "XFAIL"
    UNRESOLVED = "UNRESOLVED"
    CRASH = "CRASH"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"
    NOTRUN = "NOTRUN"

    @property
    def is_kernel_fault(self) -> bool:
        """True for the verdicts that make a run end with exit code 1."""
        return self in (Verdict.FAIL, Verdict.UNRESOLVED, Verdict.CRASH, Verdict.TIMEOUT)

    @property
    def is_infra_fault(self) -> bool:
        """True for the verdicts that make a run end with exit code 3 if there is no kernel fault."""
        return self in (Verdict.ERROR, Verdict.NOTRUN)


class Standing(enum.StrEnum):
    """How a known outcome compares with a test's outcome."""

    MET = "met"
    OTHER = "other"  # the test did something else
    EXPIRED = "expired"  # whatever the test did, this is no longer valid


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known outcome from an expectations file, compared with one test.

    Any of `verdicts` is known, for the given `reason`. `faults`, for a CRASH, are patterns for the kernel's report, and
    `messages`, for all other verdicts but PASS, patterns for the result's reason; one of them has to match, and if
    there are none, everything matches. `issue`: a URL or empty. `until`: the last day or kernel version for which it is
    valid, as written in the file, or empty. `place`: the entry (``expectations.yaml: expectations.3``), the same in all
    results that share it; `test`: the id or pattern in the entry. `who` wrote it down, and `since` when (a day).
    """

    verdicts: tuple[Verdict, ...]
    reason: str
    test: str = ""
    faults: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    issue: str = ""
    until: str = ""
    who: str = ""
    since: str = ""
    place: str = ""
    standing: Standing = Standing.MET


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The outcome of a test on one machine.

    `reason`: one line, empty for most passes. `log`: path of its log below the run directory. `machine`: which of the
    run's machines, such as ``boot-1`` or ``gw0/restored-7`` (worker, kind of start, number); empty if it used none.
    `fault`: the kernel report that made it a CRASH. `expectations`: the known outcomes that name this test and apply to
    this kernel and board, in the order of their files. `actual`: the verdict before expectations were applied (a known
    FAIL has verdict XFAIL, actual FAIL).
    """

    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    started: float | None = None
    log: str | None = None
    machine: str = ""
    board: str = ""
    fault: Fault | None = None
    expectations: tuple[Expectation, ...] = ()
    actual: Verdict | None = None

    @property
    def expected(self) -> Expectation | None:
        """The known outcome that counts: the first one that the test matched, otherwise the first that has not
        expired."""
        for standing in (Standing.MET, Standing.OTHER):
            for expectation in self.expectations:
                if expectation.standing is standing:
                    return expectation
        return None


class Condition(enum.StrEnum):
    """What a repetition ran on: a machine that was restored from the run's snapshot, one that had just booted (no test
    had used either), one on which the same test had run before, or one that had just booted with a single CPU."""

    RESTORED = "restored"
    BOOTED = "booted"
    USED = "used"
    ONE_CPU = "one CPU"

    @property
    def is_usual(self) -> bool:
        """Whether tests usually run like that, so that its outcome counts like a run's."""
        return self in (Condition.RESTORED, Condition.BOOTED)


@dataclass(frozen=True, kw_only=True)
class Repeat(Attempt):
    """A repetition of a test that failed, to find out how often it does. It changes no verdict. `load`: how many
    processes wanted each of the host's CPUs meanwhile, on average over a minute; None: not recorded."""

    condition: Condition = Condition.RESTORED
    load: float | None = None


@dataclass(frozen=True, kw_only=True)
class Result(Attempt):
    """The outcome of one test: the attempt that counts.

    `test`: the id, such as ``selftests/ftrace/test.d/00basic/basic1.tc`` or, for the re-run in an instance, the same
    followed by ``[instance]``; ``selftests/livepatch/test-state.sh::system state modification``;
    ``testcases/function/test_calls.py::test_caller``. `attempts`: all of them, in the order they began, if there were
    several; `choice` then says which of them counts, and why. `repeats`: how it ended when it was repeated.
    """

    test: str
    attempts: tuple[Attempt, ...] = ()
    choice: str = ""
    repeats: tuple[Repeat, ...] = ()

    @property
    def suite(self) -> str:
        """``selftests/ftrace``, ``selftests/livepatch`` or ``testcases``."""
        first, _, rest = self.test.partition("/")
        return f"selftests/{rest.partition('/')[0]}" if first == "selftests" else first

    @property
    def is_unexpected_pass(self) -> bool:
        """A known failure that passed this time: worth reporting, but no failure."""
        expected = self.expected
        return self.verdict is Verdict.PASS and expected is not None and expected.standing is not Standing.MET


BUILD = "build"  # the name of the one test of a run whose kernel does not build


class EndKind(enum.StrEnum):
    """How a run ended. OTHER: in a way that this version of the harness does not know."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    MAXFAIL = "maxfail"
    NOT_BUILT = "not built"
    NOT_BOOTED = "not booted"
    COLLECTION_FAILED = "collection failed"
    WORKERS_LOST = "workers lost"
    INTERNAL_ERROR = "internal error"
    OTHER = "other"


# Of runs whose results do not decide it.
_EXIT_CODES = {EndKind.INTERRUPTED: 3, EndKind.INTERNAL_ERROR: 3, EndKind.COLLECTION_FAILED: 2}
_SENTENCES = {
    EndKind.NOT_BUILT: "the kernel does not build",
    EndKind.NOT_BOOTED: "the target could not be booted",
    EndKind.WORKERS_LOST: "workers kept dying; the last one",
    EndKind.INTERNAL_ERROR: "the harness failed",
}


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended and, if there is more to say, why. The text is for people only. `blames_kernel`: that the target
    could not be booted is the kernel's fault; older harnesses did not record it."""

    kind: EndKind
    reason: str = ""
    blames_kernel: bool = False

    def __str__(self) -> str:
        if self.kind is EndKind.OTHER:
            return self.reason or self.kind
        sentence = _SENTENCES.get(self.kind, self.kind.value)
        return f"{sentence}: {self.reason}" if self.reason else sentence


@dataclass(frozen=True, kw_only=True)
class BootTime:
    """How many seconds a board took until it answered."""

    board: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A whole run, folded from its events: its `record`, every result in planned order, `notes` for people, and how it
    `ended` (None: it was killed). `started`: seconds since the epoch. `boots`: how long each boot took, without
    restored machines and without those that repeated a failure."""

    record: RunRecord = field(default_factory=RunRecord)
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    ended: RunEnd | None = None
    boots: tuple[BootTime, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every planned test was run."""
        return self.ended is not None and self.ended.kind is EndKind.COMPLETE

    def count(self) -> dict[Verdict, int]:
        """How many results of each verdict; every verdict has an entry."""
        counts = dict.fromkeys(Verdict, 0)
        for result in self.results:
            counts[result.verdict] += 1
        return counts

    @property
    def exit_code(self) -> int:
        """The exit code of the command. 0: everything as expected, 1: a kernel fault, 2: the testcases can't be
        collected, 3: an infrastructure fault and no kernel fault, or the run was interrupted. Where there was no booted
        kernel, that decides."""
        verdicts = {result.verdict for result in self.results}
        if self.ended and self.ended.kind is EndKind.NOT_BOOTED:
            return 1 if self.ended.blames_kernel else 3
        if self.ended and self.ended.kind in _EXIT_CODES:
            return _EXIT_CODES[self.ended.kind]
        if any(verdict.is_kernel_fault for verdict in verdicts):
            return 1
        if any(verdict.is_infra_fault for verdict in verdicts) or self.ended is None:
            return 3
        return 0
