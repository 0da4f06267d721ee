"""What an exception that ended a test means: its verdict, and why."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import BootError, CrashError, HarnessError, InfraError
from harness.model.fault import Fault
from harness.model.result import Verdict
from harness.run.lab import Stopped
from harness.target.base import CommandTimeout


@dataclass
class Meaning:
    """A verdict, why, the kernel report where there is one, and what pytest shows of it."""

    verdict: Verdict = Verdict.PASS
    reason: str = ""
    fault: Fault | None = None
    text: str = ""


def first_of(error: BaseException) -> BaseException:
    """What ended the test: `error`, or the finding that came before it, where putting things back failed as well."""
    while isinstance(error, BaseExceptionGroup):  # several fixtures could not be torn down
        error = error.exceptions[0]
    first, earlier = error, error.__context__
    while earlier is not None:
        if isinstance(earlier, Stopped | AssertionError | KeyboardInterrupt):
            first = earlier
        earlier = earlier.__context__
    return first


def meaning_of(error: BaseException) -> Meaning:
    """The verdict that an exception in a test means."""
    match error:
        case KeyboardInterrupt():
            return Meaning(Verdict.ERROR, "interrupted while this test was running")
        case Stopped():
            return Meaning(error.verdict, error.reason, error.fault)
        case pytest.skip.Exception():
            return Meaning(Verdict.SKIP, str(error))
        case CrashError():
            return Meaning(Verdict.CRASH, error.message)
        case CommandTimeout():
            return Meaning(Verdict.TIMEOUT, error.message)
        case InfraError():
            return Meaning(Verdict.ERROR, error.message)
        case BootError():  # a kernel that does not come up again: this test has not begun
            return Meaning(Verdict.NOTRUN, error.message)
        case HarnessError():
            return Meaning(Verdict.ERROR, error.message)
        case AssertionError() | pytest.fail.Exception():
            return Meaning(Verdict.FAIL, str(error).partition("\n")[0] or "assertion failed")
        case ValueError() | LookupError() if _raised_in_a_test(error):
            return Meaning(Verdict.FAIL, f"what the kernel told is not as expected: {type(error).__name__}: {error}")
    return Meaning(Verdict.ERROR, f"{type(error).__name__}: {error}")


def _raised_in_a_test(error: BaseException) -> bool:
    """Whether a testcase itself, and no code of the harness, met `error`: it unpacked one call tree, say, and there
    was none."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).name.startswith("test_")
