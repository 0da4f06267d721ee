"""What identifies a failure, so that the same one is known again in another run."""

from __future__ import annotations

from harness.model.fault import FaultSignature
from harness.model.result import Attempt
from harness.report.confirming import wording
from harness.report.text import one_line


def identity(attempt: Attempt) -> str:
    """Return what identifies the failure of an attempt: the signature of the kernel's report, or the verdict and what
    the test says, without numbers."""
    if attempt.fault:
        return str(attempt.fault.signature)
    return one_line(f"{attempt.actual or attempt.verdict}: {wording(attempt)}")


def is_same(one: str, other: str) -> bool:
    """Return whether two failures may be of the same bug: a report that was cut short may be that of a whole one."""
    if one == other:
        return True
    try:
        return FaultSignature.parse(one).matches(FaultSignature.parse(other))
    except ValueError:  # one of them is no kernel report
        return False
