"""What a person reads at the end of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.fault import Fault, FaultKind
from harness.model.record import KernelRecord, RunRecord
from harness.model.result import Attempt, EndKind, Expectation, Result, RunEnd, RunResults, Standing, Verdict
from harness.parse.records import run_record_to_data
from harness.report.summary import duration, overall_line, summary_lines

KNOWN = Expectation(
    verdicts=(Verdict.FAIL,), reason="fixed in 7.4", test="t*", issue="https://bugs.example.org/1", place="e: 0"
)
OTHER = replace(KNOWN, standing=Standing.OTHER)


COMPLETE = RunEnd(kind=EndKind.COMPLETE)


def run(*results: Result, ended: RunEnd | None = COMPLETE, notes: tuple[str, ...] = ()) -> RunResults:
    return RunResults(results=results, seconds=683.0, ended=ended, notes=notes)


def test_the_whole_text() -> None:
    fault = Fault(kind=FaultKind.PANIC, title="panic: boom in f")
    results = run(
        Result(test="selftests/ftrace/a.tc", verdict=Verdict.PASS),
        Result(
            test="selftests/ftrace/b.tc",
            verdict=Verdict.CRASH,
            fault=fault,
            reason="panic: boom in f; expected: FAIL",
            log="logs/b",
        ),
        Result(test="selftests/ftrace/c.tc", verdict=Verdict.XFAIL, expectations=(KNOWN,), actual=Verdict.FAIL),
        Result(test="testcases/d.py::d", verdict=Verdict.FAIL, reason="expected 1,\nfound 2", log="logs/d"),
        Result(test="testcases/e.py::e", verdict=Verdict.PASS, expectations=(OTHER,)),
        Result(test="testcases/f.py::f", verdict=Verdict.SKIP, reason="not here"),
        Result(test="testcases/g.py::g", verdict=Verdict.NOTRUN, reason="interrupted"),
        Result(test="testcases/h.py::h", verdict=Verdict.NOTRUN, reason="interrupted"),
        notes=("rebooted once",),
    )
    assert summary_lines(results, run_dir=Path("out/run")) == [
        "selftests/ftrace  1 CRASH, 1 XFAIL, 1 PASS",
        "testcases         1 FAIL, 2 NOTRUN, 1 SKIP, 1 PASS",
        "CRASH      selftests/ftrace/b.tc",
        "             panic: boom in f; expected: FAIL",
        "             out/run/logs/b",
        "FAIL       testcases/d.py::d",
        "             expected 1, found 2",
        "             out/run/logs/d",
        "NOTRUN     testcases/g.py::g and 1 more: interrupted",
        "PASS       testcases/e.py::e: passed unexpectedly (fixed in 7.4, https://bugs.example.org/1)",
        "note       rebooted once",
        "FAILED: 1 CRASH, 1 FAIL, 2 NOTRUN, 1 XFAIL, 1 SKIP, 2 PASS in 11m23s",
    ]


def test_known_outcomes_that_expired_or_that_no_test_met() -> None:
    old = replace(KNOWN, standing=Standing.EXPIRED, until="2026-11-30", place="e: 1")
    wrong = replace(OTHER, messages=("*timed out*",), issue="", place="e: 2")
    failed = Result(test="testcases/t.py::t", verdict=Verdict.FAIL, reason="no", expectations=(old, wrong))
    assert summary_lines(run(failed), run_dir=Path("out/run")) == [
        "testcases  1 FAIL",
        "FAIL       testcases/t.py::t",
        "             no",
        "expired    t*: FAIL: valid until 2026-11-30 (fixed in 7.4, https://bugs.example.org/1)",
        "unmatched  t*: FAIL with the message '*timed out*': no test matched this known outcome (fixed in 7.4)",
        "FAILED: 1 FAIL in 11m23s",
    ]


@pytest.mark.parametrize(
    ("verdict", "ended", "line"),
    [
        (Verdict.PASS, COMPLETE, "OK: 1 PASS in 11m23s"),
        (Verdict.XFAIL, COMPLETE, "OK: 1 XFAIL in 11m23s"),
        (Verdict.TIMEOUT, RunEnd(kind=EndKind.MAXFAIL), "FAILED: 1 TIMEOUT in 11m23s (maxfail)"),
        (Verdict.ERROR, COMPLETE, "BROKEN: 1 ERROR in 11m23s"),
        (Verdict.PASS, None, "BROKEN: 1 PASS in 11m23s (killed)"),
    ],
)
def test_the_overall_line(verdict: Verdict, ended: RunEnd | None, line: str) -> None:
    assert overall_line(run(Result(test="a", verdict=verdict), ended=ended)) == line


def test_what_an_old_kernel_needed_is_noted() -> None:
    kernel = KernelRecord(release="5.0.0", era_fixes={"dtc-yylloc": "it is defined twice"})
    lines = summary_lines(replace(run(), record=RunRecord(kernel=kernel)), run_dir=Path("out"))
    assert "note       this kernel was built with the era fix dtc-yylloc: it is defined twice" in lines


@pytest.mark.parametrize(("sandbox", "noted"), [("none", True), ("bubblewrap", False), ("", False)])
def test_a_kernel_that_was_built_without_a_sandbox_is_noted(sandbox: str, noted: bool) -> None:
    results = replace(run(), record=RunRecord(kernel=KernelRecord(release="7.3.4", sandbox=sandbox)))
    note = "note       this kernel was built without a sandbox"
    assert (note in summary_lines(results, run_dir=Path("out"))) == noted
    assert ("sandbox" in run_record_to_data(results.record)) == bool(sandbox)


def test_no_tests() -> None:
    assert summary_lines(run(), run_dir=Path("out")) == ["OK: no tests in 11m23s"]


def test_hostile_text_stays_on_its_line() -> None:
    hostile = "a\x1b[2Jb\r\n\x00c\ud800\x07"
    result = Result(test=hostile, verdict=Verdict.FAIL, reason=hostile, log="logs/x")
    lines = summary_lines(
        run(result, notes=(hostile,), ended=RunEnd(kind=EndKind.OTHER, reason=hostile)), run_dir=Path("out")
    )
    assert all(line.isprintable() for line in lines)
    assert "FAIL       ab c" in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3599.6, "1h00m"),
     (3725, "1h02m")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_fault_is_followed_by_the_attempts_at_its_test() -> None:
    attempts = (Attempt(verdict=Verdict.FAIL, reason="no", board="b1"), Attempt(verdict=Verdict.PASS, board="b2"))
    failed = Result(test="a", verdict=Verdict.FAIL, reason="no [...]", log="logs/a", attempts=attempts, choice="why")
    assert summary_lines(run(failed), run_dir=Path("out"))[1:6] == [
        "FAIL       a",
        "             no [...]",
        "             attempt 1: FAIL of board b1 after 0.0 s: no",
        "             attempt 2: PASS of board b2 after 0.0 s",
        "             out/logs/a",
    ]
