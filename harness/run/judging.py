"""From the events of a test to its result: pure functions of exceptions, kernel reports and known outcomes."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import pytest

from harness import shortage
from harness.errors import BootError, CrashError, HarnessError
from harness.model.fault import Fault
from harness.model.known import KnownOutcomes
from harness.model.outcome import Outcome
from harness.model.result import Result, Verdict
from harness.report.text import clean
from harness.run.stopped import Refused, Stopped
from harness.target.base import CommandTimeout

# Verdicts after which a machine is not used again.
SPENT = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.ERROR)


def first_of(error: BaseException) -> BaseException:
    """What ended the test: `error`, or the earlier finding if undoing the test's changes failed as well."""
    while isinstance(error, BaseExceptionGroup):  # several fixtures could not be torn down
        error = error.exceptions[0]
    first, earlier = error, error.__context__
    while earlier is not None:
        if isinstance(earlier, Stopped | AssertionError | KeyboardInterrupt):
            first = earlier
        earlier = earlier.__context__
    return first


def was_interrupted(error: BaseException) -> bool:
    """Whether an interrupt ended the test, or the undoing of its changes after something else had ended it."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if isinstance(one, KeyboardInterrupt):
            return True
        if id(one) in seen:
            continue
        seen.add(id(one))
        left += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        left += [one.__context__] if one.__context__ else ()
    return False


def outcome_of(error: BaseException, *, in_setup: bool = False) -> Outcome:
    """The outcome that an exception in a test means. `in_setup`: it was raised while the test was prepared, so what it
    says is not what the test is about, unless the kernel refused something that it should take."""
    match error:
        case KeyboardInterrupt():
            return Outcome(Verdict.ERROR, "interrupted while this test was running")
        case Stopped():
            return error.outcome
        case pytest.skip.Exception():
            return Outcome(Verdict.SKIP, str(error))
        case CrashError():
            return Outcome(Verdict.CRASH, error.message)
        case CommandTimeout():
            return Outcome(Verdict.TIMEOUT, error.message)
        case BootError():  # the kernel did not boot again, so this test has not begun
            return Outcome(Verdict.NOTRUN, error.message)
        case HarnessError():
            return Outcome(Verdict.ERROR, error.message)
        case OSError() | MemoryError() if short := shortage.of(error):
            return Outcome(Verdict.ERROR, short.message)
        case AssertionError() | pytest.fail.Exception() if in_setup and not isinstance(error, Refused):
            return Outcome(Verdict.ERROR, f"preparing the test failed: {_first_line(error)}")
        case AssertionError() | pytest.fail.Exception():
            return Outcome(Verdict.FAIL, _first_line(error))
        case ValueError() | LookupError() if _raised_in_a_test(error):
            return Outcome(Verdict.FAIL, f"the kernel's output is not as expected: {type(error).__name__}: {error}")
    return Outcome(Verdict.ERROR, f"{type(error).__name__}: {error}")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or "assertion failed"


def _raised_in_a_test(error: BaseException) -> bool:
    """Whether a testcase itself, and not the harness, raised `error`: for instance, it unpacked one call tree and there
    was none."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).name.startswith("test_")


class Phases:
    """The `outcome` so far of the phases of one attempt (set-up, call, tear-down). The first finding counts."""

    def __init__(self) -> None:
        self.outcome = Outcome()

    @property
    def is_open(self) -> bool:
        """Whether a phase that fails from now on determines the outcome."""
        return self.outcome.verdict in (Verdict.PASS, Verdict.SKIP)

    def fail(self, outcome: Outcome) -> None:
        """A phase has failed, or skipped the test."""
        if self.is_open:
            self.outcome = outcome

    def end_as_marked(self, reason: str, *, failed: bool) -> None:
        """A test that is marked xfail has ended; `failed` says whether it failed."""
        self.outcome = Outcome(Verdict.XFAIL if failed else Verdict.PASS, reason)

    def succeed(self, outcome: Outcome) -> None:
        """The test itself has run to its end with an outcome that says more than that nothing was found."""
        self.outcome = outcome

    def crash(self) -> None:
        """The kernel has reported a fault although the test succeeded; `with_fault` adds the fault at the end."""
        self.outcome = dataclasses.replace(self.outcome, verdict=Verdict.CRASH, reason="")


def with_fault(outcome: Outcome, fault: Fault | None) -> Outcome:
    """The outcome of a test during which the kernel reported `fault`: a crash, attributed to that fault if it has none
    yet."""
    if fault is None or outcome.fault is not None:
        return outcome
    return dataclasses.replace(outcome, verdict=Verdict.CRASH, reason=fault.title, fault=fault)


def result_of(test: str, outcome: Outcome, known: KnownOutcomes) -> Result:
    """The result of `test`: the one place where an outcome is compared with the known outcomes."""
    attempt = attempt_of(test, outcome)
    judged = known.judge(test, attempt.verdict, attempt.reason, attempt.fault)
    return dataclasses.replace(attempt, verdict=judged.verdict, reason=judged.reason, expectations=judged.expectations)


def attempt_of(test: str, outcome: Outcome) -> Result:
    """The result of an attempt at `test`, regardless of known outcomes."""
    return Result(
        test=test,
        verdict=outcome.verdict,
        actual=outcome.verdict,
        reason=clean(" ".join(outcome.reason.split())),
        started=outcome.started,
        seconds=round(outcome.seconds, 3),
        fault=outcome.fault,
    )


def is_failure(verdict: Verdict) -> bool:
    """Whether the verdict makes a run end with an exit code other than 0; --maxfail counts these."""
    return verdict.is_kernel_fault or verdict.is_infra_fault
