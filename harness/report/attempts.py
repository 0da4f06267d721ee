"""Attempts at a test in, its result out: which attempt counts, and why.

An attempt that says something about the kernel outranks one that does not (a lost machine, an interrupt, an error of
ours), and one that ran outranks a skip. Of those that say something the gravest counts, so that no later pass hides a
fault; of equals the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from harness.model.result import Attempt, Result, Verdict
from harness.report.text import one_line

_GRAVEST_FIRST = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.XFAIL, Verdict.PASS)
_NAMES = tuple(field.name for field in fields(Attempt))


def result_of(test: str, attempts: Sequence[Attempt]) -> Result:
    """The result of one or more attempts."""
    if len(attempts) == 1 and isinstance(attempts[0], Result):
        return attempts[0]
    number = min(range(len(attempts)), key=lambda each: (_rank(attempts[each]), -each))
    counts = attempts[number]
    fields = {name: getattr(counts, name) for name in _NAMES}
    if len(attempts) == 1:
        return Result(test=test, **fields)
    fields["reason"] = " ".join(part for part in (counts.reason, _disagreement(attempts, number)) if part)
    plain = tuple(Attempt(**{name: getattr(each, name) for name in _NAMES}) for each in attempts)
    return Result(test=test, **fields, attempts=plain, choice=_choice(attempts, number))


def attempt_line(number: int, attempt: Attempt) -> str:
    """``attempt 2: FAIL on gw1/restored-3 of board one after 2.5 s: expected 1, found 2``."""
    machine = f" on {one_line(attempt.machine)}" if attempt.machine else ""
    board = f" of board {one_line(attempt.board)}" if attempt.board else ""
    title = attempt.fault.title if attempt.fault else ""
    reason = one_line(attempt.reason or title)
    return (
        f"attempt {number}: {attempt.verdict}{machine}{board} after {attempt.seconds:.1f} s{reason and f': {reason}'}"
    )


def _rank(attempt: Attempt) -> int:
    """The rank of a verdict; 0 is the gravest."""
    if not _concerns_kernel(attempt):
        return len(_GRAVEST_FIRST) + 1
    return _GRAVEST_FIRST.index(attempt.verdict) if attempt.verdict in _GRAVEST_FIRST else len(_GRAVEST_FIRST)


def _concerns_kernel(attempt: Attempt) -> bool:
    """Whether it says something about the kernel."""
    return not (attempt.actual or attempt.verdict).is_infra_fault


def _choice(attempts: Sequence[Attempt], number: int) -> str:
    counts = attempts[number]
    others = [each for index, each in enumerate(attempts) if index != number]
    if not _concerns_kernel(counts):
        why = "none says anything about the kernel, and it is the last"
    elif not any(_concerns_kernel(each) for each in others):
        why = "no other says anything about the kernel"
    elif all(_rank(each) == _rank(counts) for each in others if _concerns_kernel(each)):
        why = "it is the last of those that say the same about the kernel"
    else:
        why = f"{counts.verdict} is the gravest that was said about the kernel"
    return f"attempt {number + 1} of {len(attempts)} counts: {why}"


def _disagreement(attempts: Sequence[Attempt], number: int) -> str:
    """What the other attempts said about the kernel, if it differs; for the result's reason."""
    counts = attempts[number]
    others = [
        f"attempt {index + 1}: {each.verdict}{f' on {each.board}' if each.board else ''}"
        f"{f' ({each.fault.title})' if each.fault else ''}"
        for index, each in enumerate(attempts)
        if index != number and _concerns_kernel(each) and _finding(each) != _finding(counts)
    ]
    return f"[attempt {number + 1} of {len(attempts)}; {'; '.join(others)}]" if others else ""


def _finding(attempt: Attempt) -> tuple[Verdict, str]:
    return attempt.verdict, attempt.fault.title if attempt.fault else ""
