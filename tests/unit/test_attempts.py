"""Of several attempts at a test one counts: which, and what is said of the others."""

from __future__ import annotations

import pytest

from harness.model.result import Attempt, Fault, FaultKind, Verdict
from harness.report.attempts import attempt_line, result_of


def attempts(*verdicts: str) -> list[Attempt]:
    """An attempt each; ``XFAIL:ERROR`` is a known ERROR."""
    found = []
    for number, told in enumerate(verdicts, 1):
        verdict, _, actual = told.partition(":")
        found.append(
            Attempt(
                verdict=Verdict(verdict),
                actual=Verdict(actual) if actual else None,
                log=f"logs/{number}.log",
                reason=f"reason {number}",
                board=f"b{number}",
            )
        )
    return found


@pytest.mark.parametrize(
    ("verdicts", "counts"),
    [
        (("ERROR", "PASS"), 2),
        (("PASS", "ERROR"), 1),
        (("NOTRUN", "SKIP"), 2),
        (("NOTRUN", "ERROR"), 2),
        (("ERROR", "ERROR", "FAIL", "ERROR"), 3),
        (("FAIL", "PASS"), 1),
        (("PASS", "FAIL"), 2),
        (("FAIL", "FAIL"), 2),
        (("CRASH", "TIMEOUT", "FAIL", "UNRESOLVED", "XFAIL", "PASS", "SKIP", "ERROR"), 1),
        (("ERROR", "SKIP", "PASS", "XFAIL", "UNRESOLVED", "FAIL", "TIMEOUT", "CRASH"), 8),
        (("SKIP", "PASS"), 2),
        (("XFAIL", "PASS"), 1),
        (("XFAIL:ERROR", "PASS"), 2),  # a known ERROR says as little as any
        (("XFAIL:CRASH", "FAIL"), 2),
    ],
)
def test_which_counts(verdicts: tuple[str, ...], counts: int) -> None:
    tried = attempts(*verdicts)
    result = result_of("t", tried)
    assert result.log == f"logs/{counts}.log"
    assert result.attempts == tuple(tried)
    assert result.choice.startswith(f"attempt {counts} of {len(tried)} counts: ")


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (("ERROR", "PASS"), "reason 2"),
        (("FAIL", "PASS", "ERROR"), "reason 1 [attempt 1 of 3; attempt 2: PASS on b2]"),
        (("PASS", "SKIP", "FAIL"), "reason 3 [attempt 3 of 3; attempt 1: PASS on b1; attempt 2: SKIP on b2]"),
        (("FAIL", "FAIL"), "reason 2"),
    ],
)
def test_the_reason_says_what_others_said_of_the_kernel(verdicts: tuple[str, ...], reason: str) -> None:
    assert result_of("t", attempts(*verdicts)).reason == reason


@pytest.mark.parametrize(
    ("verdicts", "choice"),
    [
        (("ERROR", "PASS"), "attempt 2 of 2 counts: no other says anything about the kernel"),
        (("FAIL", "PASS"), "attempt 1 of 2 counts: FAIL is the gravest that was said about the kernel"),
        (("FAIL", "FAIL"), "attempt 2 of 2 counts: it is the last of those that say the same about the kernel"),
        (("ERROR", "NOTRUN"), "attempt 2 of 2 counts: none says anything about the kernel, and it is the last"),
    ],
)
def test_why_it_counts(verdicts: tuple[str, ...], choice: str) -> None:
    assert result_of("t", attempts(*verdicts)).choice == choice


def test_two_crashes_of_different_kinds_are_both_named() -> None:
    first, second = (
        Attempt(verdict=Verdict.CRASH, fault=Fault(kind=FaultKind.OOPS, title=title)) for title in ("oops a", "oops b")
    )
    result = result_of("t", [first, second])
    assert result.fault == second.fault
    assert result.reason == "[attempt 2 of 2; attempt 1: CRASH (oops a)]"


def test_one_attempt_is_the_result() -> None:
    (only,) = attempts("FAIL")
    result = result_of("t", [only])
    assert (result.verdict, result.reason, result.attempts, result.choice) == (Verdict.FAIL, "reason 1", (), "")


def test_the_line_of_an_attempt() -> None:
    attempt = Attempt(
        verdict=Verdict.CRASH,
        seconds=2.5,
        machine="gw1/boot-2",
        board="one",
        fault=Fault(kind=FaultKind.OOPS, title="oops\n in x"),
    )
    assert attempt_line(2, attempt) == "attempt 2: CRASH on gw1/boot-2 of board one after 2.5 s: oops in x"
    assert attempt_line(1, Attempt(verdict=Verdict.ERROR)) == "attempt 1: ERROR after 0.0 s"
