"""Which tests of a run fail, in which way, and with which evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.comparison import Tally
from harness.model.result import EndKind, Result, RunResults, Verdict
from harness.model.review import Failure
from harness.report.confirming import since, told
from harness.report.text import one_line

BOOT = "boot"
"""The name of booting, where it is compared like a test."""
_LONGEST = 300
_TELLING = ("pc : ", "Unable to handle", "kernel BUG at", "WARNING: ", "BUG: ", "Internal error: ", "Kernel panic")
_SAYS_WHERE = "pc : "


def outcomes(results: RunResults) -> dict[str, Result]:
    """Return the results of a run by test; booting is one more, where the kernel did not boot or any test ran."""
    found = {result.test: result for result in results.results if result.verdict is not Verdict.NOTRUN}
    end = results.ended
    if end is not None and end.kind is EndKind.NOT_BOOTED:
        verdict = Verdict.CRASH if end.blames_kernel else Verdict.ERROR
        fault = next((result.fault for result in results.results if result.fault), None)
        return {BOOT: Result(test=BOOT, verdict=verdict, reason=end.reason or str(end), fault=fault), **found}
    return {**({BOOT: Result(test=BOOT, verdict=Verdict.PASS)} if found else {}), **found}


def fails(result: Result) -> bool:
    """Whether a test failed, and not as it is known to."""
    return result.verdict.is_kernel_fault


def is_same(one: Result, other: Result) -> bool:
    """Whether two failures of a test are the same: the same kernel report, or neither has one."""
    if one.fault and other.fault:
        return one.fault.signature.matches(other.fault.signature)
    return one.fault is None and other.fault is None


def tally(result: Result, *, like: Result) -> Tally:
    """Count how a test ended, and its repetitions if it failed; other failures than `like` are passes, and what says
    nothing about the kernel does not count."""
    if fails(result):
        if is_same(result, like):
            return since(result)
        return Tally(passes=1)
    return Tally(passes=1) if result.verdict is Verdict.PASS else Tally()


def failure_of(result: Result, log: str = "") -> Failure:
    """Return what is told of a failed test; `log`: its log."""
    title = result.fault.title if result.fault else result.reason or str(result.verdict)
    lines = result.fault.lines if result.fault else log.split("\n")
    return Failure(
        test=result.test,
        verdict=result.verdict,
        title=one_line(title, _LONGEST),
        evidence=tuple(one_line(line, _LONGEST) for line in _telling(lines, is_fault=result.fault is not None)),
        repeated=one_line(told(result), _LONGEST),
    )


def _telling(lines: Sequence[str], *, is_fault: bool) -> list[str]:
    """The two lines that say most: of a kernel's report what happened and where; of a log what it asserts, else how it
    ends."""
    kept = [line for line in lines if line.strip()]
    if is_fault:
        what = [line for line in kept if any(word in line for word in _TELLING) and _SAYS_WHERE not in line][:1]
        where = [line for line in kept if _SAYS_WHERE in line][:1]
        found = [*what, *where]
        more = [line for line in kept if line not in found]
        return sorted([*found, *more][:2], key=kept.index)
    asserted = [line for line in kept if line.startswith("E  ")]
    return (asserted or kept[-2:])[:2]


def counted(results: Mapping[str, Result]) -> dict[Verdict, int]:
    """Count the verdicts of tests; booting is none of them."""
    counts: dict[Verdict, int] = {}
    for test, result in results.items():
        if test != BOOT:
            counts[result.verdict] = counts.get(result.verdict, 0) + 1
    return counts
