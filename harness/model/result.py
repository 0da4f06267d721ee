"""Verdicts, events and results: what a run writes down and what a report is folded from."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.fault import Fault


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


class EventKind(enum.StrEnum):
    """The kinds of line in events.jsonl, in the order a run writes them."""

    RUN = "run"  # first: data = properties of the run (kernel, patches, compiler, board …); later: what has changed
    PLANNED = "planned"  # once a collection: data["tests"] = list of test ids, in order
    STARTED = "started"
    FINISHED = "finished"  # data: verdict, reason, seconds, log, fault_title …
    BOOTED = "booted"  # data: seconds, attempt
    NOTE = "note"  # data["text"]: for people (a reboot, leaked state, a missing tool)
    ENDED = "ended"  # once, last: data["why"] = "complete" | "interrupted" | "maxfail" | …


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of events.jsonl.

    `time` is seconds since the epoch; `test` is the test's id where the event is about one.
    """

    kind: EventKind
    time: float
    test: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known outcome from testcases/expectations.yaml: any of `verdicts`, because of `reason`."""

    verdicts: tuple[Verdict, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one test.

    `test`: the id, as ``selftests/ftrace/test.d/00basic/basic1.tc`` or, for the re-run in an instance, the
    same with ``[instance]`` behind it; ``selftests/livepatch/test-state.sh::system state modification``;
    ``testcases/function/test_calls.py::test_caller``.
    `reason`: one line, empty for most passes. `log`: path of the test's log below the run directory.
    `fault`: the kernel report that made it a CRASH. `expected`: the known outcome that it was held against.
    `actual`: the verdict before expectations were applied (a known FAIL has verdict XFAIL, actual FAIL).
    """

    test: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    started: float | None = None
    log: str | None = None
    fault: Fault | None = None
    expected: Expectation | None = None
    actual: Verdict | None = None

    @property
    def suite(self) -> str:
        """``selftests/ftrace``, ``selftests/livepatch`` or ``testcases``."""
        first, _, rest = self.test.partition("/")
        return f"selftests/{rest.partition('/')[0]}" if first == "selftests" else first

    @property
    def is_unexpected_pass(self) -> bool:
        """A known failure that passed this time: worth telling, no reason to fail."""
        return self.verdict is Verdict.PASS and self.expected is not None and Verdict.PASS not in self.expected.verdicts


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A whole run, folded from its events: `properties` (kernel, patches, compiler, board …), every result in
    the order planned, `notes` for people, and how it `ended` (None: it was killed)."""

    properties: Mapping[str, Any]
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    ended: str | None = None

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
