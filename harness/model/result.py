"""Verdicts and results: what a run finds out, and what documents are made of."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.model.record import RunRecord


class Verdict(enum.StrEnum):
    """The outcome of one test.

    CRASH and TIMEOUT are the kernel's, ERROR is the harness's or the lab's. XFAIL is a failure that was
    expected, by the test itself or by testcases/expectations.yaml. NOTRUN: planned, but never started.
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
        """True for the verdicts that make a run end with exit code 3 when no kernel fault is there."""
        return self in (Verdict.ERROR, Verdict.NOTRUN)


class FaultKind(enum.StrEnum):
    """What kind of kernel report was recognised on the console."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "BUG"
    WARNING = "WARNING"
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    RCU_STALL = "RCU stall"
    HUNG_TASK = "hung task"
    KASAN = "KASAN"
    LOCKDEP = "lockdep"
    SILENCE = "silence"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kernel report: `title` is a line a person searches for, as
    ``panic: Unable to handle kernel paging request in wake_up_process``; `lines` are its console lines."""

    kind: FaultKind
    title: str
    lines: tuple[str, ...] = ()

    @property
    def is_fatal(self) -> bool:
        """True where the kernel can't be expected to go on (a panic, an oops in a task is not)."""
        return self.kind in (FaultKind.PANIC, FaultKind.HARD_LOCKUP, FaultKind.SILENCE)


class Standing(enum.StrEnum):
    """How a known outcome compares with what a test did."""

    MET = "met"
    OTHER = "other"  # the test did something else
    EXPIRED = "expired"  # whatever the test did, this counts no more


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known outcome, as an expectations file has it, held against one test.

    Known is any of `verdicts`, because of `reason`. `faults`, for a CRASH, and `messages`, for all other verdicts but
    PASS, are patterns of the kernel's report and of the result's reason, one of which has to match; empty: any.
    `issue`: a URL or empty. `until`: the last day or kernel version for which it counts, as written there, or empty.
    `place`: where it stands (``expectations.yaml: expectations.3``), by which results share it; `test`: the id or
    pattern there.
    """

    verdicts: tuple[Verdict, ...]
    reason: str
    test: str = ""
    faults: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    issue: str = ""
    until: str = ""
    place: str = ""
    standing: Standing = Standing.MET


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The outcome of a test on one machine.

    `reason`: one line, empty for most passes. `log`: path of its log below the run directory. `machine`: which of the
    run's machines, as ``boot-1`` or ``gw0/restored-7`` (worker, kind of start, number); empty where it met none.
    `fault`: the kernel report that made it a CRASH. `expectations`: the known outcomes that speak of this test on this
    kernel and board, in the order of their files.
    `actual`: the verdict before expectations were applied (a known FAIL has verdict XFAIL, actual FAIL).
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
        """The known outcome that counts: the first one that the test met, else the first that has not expired."""
        for standing in (Standing.MET, Standing.OTHER):
            for expectation in self.expectations:
                if expectation.standing is standing:
                    return expectation
        return None


@dataclass(frozen=True, kw_only=True)
class Result(Attempt):
    """The outcome of one test: the attempt that counts.

    `test`: the id, as ``selftests/ftrace/test.d/00basic/basic1.tc`` or, for the re-run in an instance, the
    same with ``[instance]`` behind it; ``selftests/livepatch/test-state.sh::system state modification``;
    ``testcases/function/test_calls.py::test_caller``.
    `attempts`: all of them, in the order they began, where there were several; `choice` then says which of them counts,
    and why.
    """

    test: str
    attempts: tuple[Attempt, ...] = ()
    choice: str = ""

    @property
    def suite(self) -> str:
        """``selftests/ftrace``, ``selftests/livepatch`` or ``testcases``."""
        first, _, rest = self.test.partition("/")
        return f"selftests/{rest.partition('/')[0]}" if first == "selftests" else first

    @property
    def is_unexpected_pass(self) -> bool:
        """A known failure that passed this time: worth telling, no reason to fail."""
        expected = self.expected
        return self.verdict is Verdict.PASS and expected is not None and expected.standing is not Standing.MET


class EndKind(enum.StrEnum):
    """How a run ended. OTHER: in a way that this harness has no word for."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    MAXFAIL = "maxfail"
    NOT_BOOTED = "not booted"
    COLLECTION_FAILED = "collection failed"
    WORKERS_LOST = "workers lost"
    INTERNAL_ERROR = "internal error"
    OTHER = "other"


_SENTENCES = {
    EndKind.NOT_BOOTED: "the target could not be booted",
    EndKind.WORKERS_LOST: "workers kept dying, at last",
    EndKind.INTERNAL_ERROR: "the harness failed",
}


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended, and why, where there is more to say. Its text is for people only."""

    kind: EndKind
    reason: str = ""

    def __str__(self) -> str:
        if self.kind is EndKind.OTHER:
            return self.reason or self.kind
        sentence = _SENTENCES.get(self.kind, self.kind.value)
        return f"{sentence}: {self.reason}" if self.reason else sentence


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A whole run, folded from its events: its `record`, every result in the order planned, `notes` for people, and how
    it `ended` (None: it was killed). `started`: seconds since the epoch."""

    record: RunRecord = field(default_factory=RunRecord)
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    ended: RunEnd | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every planned test had its turn."""
        return self.ended is not None and self.ended.kind is EndKind.COMPLETE

    def count(self) -> dict[Verdict, int]:
        """How many results of each verdict; every verdict has an entry."""
        counts = dict.fromkeys(Verdict, 0)
        for result in self.results:
            counts[result.verdict] += 1
        return counts

    @property
    def exit_code(self) -> int:
        """0 all as expected, 1 a kernel fault, 3 an infrastructure fault and no kernel fault."""
        verdicts = {result.verdict for result in self.results}
        if any(verdict.is_kernel_fault for verdict in verdicts):
            return 1
        if any(verdict.is_infra_fault for verdict in verdicts) or self.ended is None:
            return 3
        return 0
